// The last calls: who called what, how it ended, what it cost.

const LEVELS = { completed: "ok", corrected: "ok", rejected: "over", terminated: "over" };
const REFUSALS_TOLD_MS = 4_000;

/** `1.2k tokens, $0.0012`; the count of calls only where there is nothing else. */
function chargedText(amounts) {
  const given = Object.entries(amounts).filter(([, amount]) => Number(amount) !== 0);
  const told = given.length > 1 ? given.filter(([dim]) => dim !== "calls") : given;
  const rank = (dim) => (DIM_ORDER.includes(dim) ? DIM_ORDER.indexOf(dim) : DIM_ORDER.length);
  const sorted = told.sort(([a], [b]) => rank(a) - rank(b));
  const one = ([dim, amount]) => (dim === "usd" ? moneyText(amount) : `${amountText(dim, amount)} ${dim}`);
  return sorted.map(one).join(", ");
}

/** What became of a call, in words. */
function outcomeText(call) {
  const error = call.error ? call.error.split(".").at(-1) : "";
  const code = call.outcome === "failed" && call.status !== 500 ? ` ${call.status}` : "";
  return error && call.outcome !== "completed" ? `${error}${code}` : code.trim();
}

/** The roles are named, as some browsers forget those of a table that is laid out as cards. */
function cell(className, ...children) {
  const node = make("td", className, ...children);
  node.setAttribute("role", "cell");
  return node;
}

function withText(tag, className, value) {
  const node = make(tag, className);
  setText(node, value);
  return node;
}

/** A text that may be cut where there is little room: then it is read from its title. */
function cutText(tag, className, value) {
  const node = withText(tag, className, value);
  setAttribute(node, "title", value);
  return node;
}

class CallRow {
  constructor(call) {
    const badge = withText("span", "badge", call.outcome);
    badge.dataset.level = LEVELS[call.outcome] ?? "warn";
    const what = [call.kind, call.model, call.provider].filter(Boolean).join(" · ");
    const charged = chargedText(call.charged);
    const held = charged ? "" : chargedText(call.reserved);
    const told = held ? `${isRefused(call) ? "asked" : "returned"} ${held}` : charged;
    const duration = isRefused(call) ? "" : durationText(call.duration_ms / 1000);
    this.node = make(
      "tr",
      isRefused(call) ? "call refused" : "call",
      cell("at", withText("time", "", clockText(call.timestamp))),
      cell("call-name", cutText("bdi", "name", call.name ?? "reserve"), withText("span", "about", what)),
      cell("on", cutText("bdi", "", call.task || "no task"), withText("span", "about", call.principal)),
      cell("outcome", badge, withText("span", "about", outcomeText(call))),
      cell("charged", cutText("span", held ? "about" : "", told)),
      cell("took", withText("span", "", duration)),
      cell("waited", withText("span", "", call.wait_ms >= 1 ? durationText(call.wait_ms / 1000) : "")),
    );
    this.node.setAttribute("role", "row");
    setAttribute(this.node, "title", `${call.task || "no task"}, ${call.error ?? call.outcome}`);
  }

  update() {} // what has ended stays as it was
}

class Calls {
  constructor() {
    this.rows = new Rows(find("calls"), (call) => new CallRow(call));
    this.cap = new Cap(find("more-calls"), 25, 100);
    this.refused = find("refused-only");
    this.refused.addEventListener("input", () => repaintNow());
  }

  paint() {
    const kept = state.calls.slice(-CALLS_KEPT);
    const wanted = this.refused.checked ? kept.filter(isRefused) : kept;
    this.rows.show(this.cap.cut(wanted.reverse()), (call) => call.number);
    setHidden(find("no-calls"), wanted.length > 0 || !state.hasHistory);
    setHidden(find("skipped"), state.skipped === 0);
    setText(find("skipped"), `${plural(state.skipped, "call")} or more came too fast to be listed`);
  }
}

/** Says refusals to those who do not see them: politely, and several as one. */
class Announcer {
  constructor() {
    this.node = find("refusals");
    this.count = 0;
    this.timer = null;
  }

  tell(call) {
    this.count += 1;
    this.last = call;
    this.timer ??= setTimeout(() => this._say(), this.wasSaid ? REFUSALS_TOLD_MS : 0);
  }

  _say() {
    const { count, last } = this;
    const what = `${last.name ?? "a reserve"} in ${last.task || "no task"}`;
    const one = `Refused: ${what}, ${last.outcome}.`;
    setText(this.node, count === 1 ? one : `${count} calls refused, the last one: ${what}.`);
    this.count = 0;
    this.timer = null;
    this.wasSaid = true;
  }
}
