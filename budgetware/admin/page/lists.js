// Resources, principals and today's totals.

function limitText(limit, dim) {
  const value = amountText(dim, limit.value);
  if (limit.type === "rate") {
    const period = Number.isFinite(Number(limit.period)) ? durationText(Number(limit.period)) : limit.period;
    const burst = limit.max && limit.max !== limit.value ? `, at most ${amountText(dim, limit.max)}` : "";
    return `${value} / ${period}${burst}`;
  }
  return limit.type === "concurrency" ? `${value} at a time` : `${value} in all`;
}

/** Those with a parent right after it, each with its depth. */
function nested(items) {
  const names = new Set(items.map((item) => item.name));
  const lines = [];
  const add = (parent, level) => {
    for (const item of items) {
      if ((names.has(item.parent) ? item.parent : null) !== parent || level > items.length) continue;
      lines.push({ item, level });
      add(item.name, level + 1);
    }
  };
  add(null, 0);
  return lines;
}

class ListRow {
  constructor() {
    this.name = make("bdi", "name");
    this.badge = make("span", "badge");
    this.about = make("span", "about");
    const meters = make("div", "meters");
    this.meters = new Meters(meters);
    this.node = make("li", "entry", make("div", "line", this.name, this.badge, this.about), meters);
  }

  show({ item, level }, about, badge, dims) {
    setStyle(this.node, "--level", String(Math.min(level, 8)));
    setText(this.name, item.name);
    setAttribute(this.name, "title", item.parent ? `${item.name}, below ${item.parent}` : item.name);
    setText(this.about, about);
    setText(this.badge, badge);
    this.meters.update(dims);
  }
}

class ResourceRow extends ListRow {
  update(line) {
    const { item } = line;
    const label = item.limit.type === "concurrency" ? "slots" : item.dim ?? item.units;
    const parent = item.parent ? [`below ${item.parent}`] : [];
    const about = [limitText(item.limit, item.dim), item.enforcement, ...parent].join(" · ");
    setAttribute(this.badge, "data-level", "warn");
    const badge = item.waiting ? `${countText(item.waiting)} waiting` : "";
    this.show(line, about, badge, { [label]: item.balance });
  }
}

class PrincipalRow extends ListRow {
  update(line) {
    const { item } = line;
    const quotas = Object.entries(item.quotas).map(([dim, limit]) => `${dim} ${limitText(limit, dim)}`);
    const about = [...(item.parent ? [`below ${item.parent}`] : []), ...quotas].join(" · ");
    setAttribute(this.badge, "data-level", "ok");
    this.show(line, about || "no quota", item.exempt ? "exempt" : "", item.dims);
  }
}

class List {
  constructor(name, create) {
    this.name = name;
    this.rows = new Rows(find(name), create);
    this.cap = new Cap(find(`more-${name}`), 12, 50);
  }

  paint(items) {
    this.rows.show(this.cap.cut(nested(items)), ({ item }) => item.name);
    setText(find(`${this.name}-count`), items.length ? countText(items.length) : "");
    setHidden(find(`no-${this.name}`), items.length > 0);
  }
}

/** Why no resource is listed: there is none, or the key is for one principal, and sees none. */
function paintNoResources(report) {
  if (!report) return; // which of both, it says
  setText(find("no-resources"), report.api_key_name ? "This key sees no resources." : "No resource is defined.");
}

/** What `/usage` says of today, which begins at midnight UTC, as the buckets of reports do. */
function paintTotals(report) {
  if (!report) return;
  const { usage, sessions } = report;
  const charged = usage.charged ?? {};
  const figures = {
    calls: countText(usage.calls),
    refused: countText(usage.refused),
    tokens: countText(tokensOf(charged)),
    cost: moneyText(charged.usd ?? 0),
    waited: durationText(usage.wait_ms / 1000),
    tasks: `${countText(sessions.started)} started, ${countText(sessions.failed)} failed`,
  };
  for (const [name, text] of Object.entries(figures)) setText(find(`today-${name}`), text);
}
