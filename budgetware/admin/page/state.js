// What the page knows: the last overview, the last calls, and sums per second. All of it bounded.

const CALLS_KEPT = 500;
const SECONDS_KEPT = 303;
const REFUSED = new Set(["rejected", "terminated"]);
const SERIES = ["calls", "refused", "tokens", "usd"];

/** Sums per second over the last minutes, in a ring: what is older is overwritten. */
class Series {
  constructor() {
    this.sums = Object.fromEntries(SERIES.map((name) => [name, new Float64Array(SECONDS_KEPT)]));
    this.head = 0;
  }

  /** Move on to a second; those in between were idle. */
  advance(second) {
    const from = Math.max(this.head + 1, second - SECONDS_KEPT + 1);
    for (let s = from; s <= second; s += 1) {
      for (const sums of Object.values(this.sums)) sums[s % SECONDS_KEPT] = 0;
    }
    this.head = Math.max(this.head, second);
  }

  add(second, amounts) {
    this.advance(second);
    if (second <= this.head - SECONDS_KEPT) return;
    for (const name of SERIES) this.sums[name][second % SECONDS_KEPT] += amounts[name];
  }

  /** The sum of the seconds `from <= s < to`. */
  sum(name, from, to) {
    let total = 0;
    for (let s = Math.max(from, this.head - SECONDS_KEPT + 1); s < Math.min(to, this.head + 1); s += 1) {
      total += this.sums[name][s % SECONDS_KEPT];
    }
    return total;
  }
}

const state = {
  overview: null,
  usage: null,
  access: "read",
  calls: [],
  hasHistory: false, // whether the calls of before have come
  lastNumber: 0,
  skipped: 0,
  series: new Series(),
  offsetSeconds: 0,
  freshAt: 0,
};

/** The time as the server has it, in seconds. */
function serverNow() {
  return Date.now() / 1000 + state.offsetSeconds;
}

function isRefused(call) {
  return REFUSED.has(call.outcome);
}

function takeCall(number, call) {
  if (number <= state.lastNumber) return false;
  state.lastNumber = number;
  if (!call.outcome || !call.charged) return false; // a counter, not a call
  call.number = number;
  state.calls.push(call);
  if (state.calls.length > CALLS_KEPT * 2) state.calls = state.calls.slice(-CALLS_KEPT);
  const counts = call.outcome === "corrected" ? 0 : 1;
  state.series.add(Math.floor(call.timestamp), {
    calls: counts,
    refused: isRefused(call) ? 1 : 0,
    tokens: tokensOf(call.charged),
    usd: Number(call.charged.usd ?? 0),
  });
  return true;
}

function tokensOf(charged) {
  return charged.tokens ?? (charged.input_tokens ?? 0) + (charged.output_tokens ?? 0);
}

/** Forget all calls: the server has started anew, or another key sees others. */
function forgetCalls() {
  state.calls = [];
  state.hasHistory = false;
  state.lastNumber = 0;
  state.skipped = 0;
  state.series = new Series();
}
