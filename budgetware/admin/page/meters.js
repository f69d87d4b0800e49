// A bar of what is spent, reserved and left of a limit.

const DIM_ORDER = ["tokens", "input_tokens", "output_tokens", "usd", "calls", "millis"];

/** What is shown of a budget, in order: what has a limit, then what was spent besides. */
function dimsOf(dims) {
  const rank = (dim) => (DIM_ORDER.includes(dim) ? DIM_ORDER.indexOf(dim) : DIM_ORDER.length);
  return Object.entries(dims ?? {})
    .filter(([dim, balance]) => balance.limit !== null || (dim !== "millis" && Number(balance.spent) > 0))
    .sort(([a, x], [b, y]) => (x.limit === null) - (y.limit === null) || rank(a) - rank(b));
}

/** `ok`, `warn` or `over`: how near its limit a balance is. */
function levelOf(balance) {
  if (balance.limit === null) return "ok";
  const used = Number(balance.spent) + Number(balance.reserved);
  if (Number(balance.overrun) > 0 || Number(balance.remaining) <= 0) return "over";
  return balance.warn !== null && used > Number(balance.warn) ? "warn" : "ok";
}

function sentence(dim, balance) {
  const show = (name) => `${name} ${exactText(dim, balance[name])}`;
  if (balance.limit === null) return `${dim}: ${show("spent")}, no limit`;
  const extra = ["granted", "overrun", "assumed"].filter((name) => Number(balance[name]) > 0);
  const parts = ["spent", "reserved", "remaining", ...extra].map(show);
  if (balance.warn !== null) parts.push(`warns above ${exactText(dim, balance.warn)}`);
  return `${dim}: ${parts.join(", ")}, of ${exactText(dim, balance.limit)}`;
}

class Meter {
  constructor([dim]) {
    this.dim = dim;
    this.shown = null;
    this.name = make("span", "dim");
    this.value = make("span", "value");
    this.over = make("span", "over-by");
    this.parts = ["spent", "reserved", "granted", "overrun"].map((name) => make("i", name));
    this.tick = make("i", "tick");
    this.bar = make("div", "bar", ...this.parts, this.tick);
    this.node = make("div", "meter", make("div", "label", this.name, this.value, this.over), this.bar);
    setText(this.name, dim);
  }

  update([dim, balance]) {
    const key = JSON.stringify(balance);
    if (key === this.shown) return;
    this.shown = key;
    const text = sentence(dim, balance);
    setAttribute(this.node, "title", text);
    setAttribute(this.node, "data-level", levelOf(balance));
    const isLimited = balance.limit !== null;
    setText(this.value, isLimited ? this._ofLimit(balance) : amountText(dim, balance.spent));
    setHidden(this.bar, !isLimited);
    this._speak(isLimited ? balance : null, text);
    const over = Number(balance.overrun);
    setText(this.over, over > 0 ? `+${amountText(dim, balance.overrun)} over` : "");
    if (isLimited) this._fill(balance);
  }

  _ofLimit(balance) {
    const used = this.dim === "usd"
      ? (Number(balance.spent) + Number(balance.reserved)).toFixed(6)
      : balance.spent + balance.reserved;
    return `${amountText(this.dim, used)} / ${amountText(this.dim, balance.limit)}`;
  }

  _speak(balance, text) {
    setAttribute(this.bar, "role", balance ? "meter" : null);
    if (balance === null) return;
    const used = Number(balance.spent) + Number(balance.reserved);
    setAttribute(this.bar, "aria-label", this.dim);
    setAttribute(this.bar, "aria-valuemin", 0);
    setAttribute(this.bar, "aria-valuemax", balance.limit);
    setAttribute(this.bar, "aria-valuenow", Math.min(used, Number(balance.limit)));
    setAttribute(this.bar, "aria-valuetext", text);
  }

  _fill(balance) {
    const overrun = Number(balance.overrun);
    const whole = Math.max(Number(balance.limit) + overrun, 1e-9);
    const share = (amount) => `${Math.min(100, (100 * amount) / whole).toFixed(2)}%`;
    for (const part of this.parts) setStyle(part, "width", share(Number(balance[part.className])));
    setHidden(this.parts.at(-1), overrun <= 0);
    setHidden(this.tick, balance.warn === null);
    if (balance.warn !== null) setStyle(this.tick, "left", share(Number(balance.warn)));
  }
}

/** All bars of one budget. */
class Meters {
  constructor(node) {
    this.rows = new Rows(node, (entry) => new Meter(entry));
  }

  update(dims) {
    this.rows.show(dimsOf(dims), ([dim]) => dim);
  }
}
