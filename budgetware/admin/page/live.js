// Keeps the page up to date: one stream of events, and the overview after each of them. When the
// server is gone it waits longer and longer, and says how old what is shown is.

const PAINT_MS = 250;
const IDLE_MS = 1_000;
const GATHER_MS = 60;
const USAGE_MS = 1_000;
const HISTORY = 1_000;
const HISTORY_PAGES = 4;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const STEADY_MS = 5_000;
const QUIET_MS = 3_000; // it asks every second, so this is four seconds after the last answer
const SILENCE_MS = 45_000; // the server says something every 15 seconds

const live = {
  phase: "starting", // starting, live, lost, locked
  stream: null, // aborts what the current connection has under way
  attempt: 0,
  retryAt: 0,
  reason: "",
  openedAt: 0,
  heardAt: 0,
  isPaused: false,
  isQuiet: false, // whether what it asked last is not answered for long
  isAsking: false,
  isWanted: false,
  askedAt: 0,
  tookMs: 0,
  usageAt: -Infinity,
  usageTookMs: 0,
  usageNumber: -1,
  lateNumber: 0,
  timers: new Map(),
};

/** Do something once after a while; asked again, only the sooner of both. */
function later(name, delayMs, act) {
  const due = performance.now() + delayMs;
  const waiting = live.timers.get(name);
  if (waiting && waiting.due <= due) return;
  if (waiting) clearTimeout(waiting.timer);
  const timer = setTimeout(() => {
    live.timers.delete(name);
    act();
  }, Math.max(0, delayMs));
  live.timers.set(name, { due, timer });
}

function stopTimers() {
  for (const { timer } of live.timers.values()) clearTimeout(timer);
  live.timers.clear();
}

// The connection.

async function connect() {
  live.stream?.abort();
  stopTimers();
  const stream = new AbortController();
  live.stream = stream;
  try {
    await takeOverview(stream.signal);
    await takeHistory(stream.signal);
    await listen(state.lastNumber, stream.signal, { opened, heard, arrived });
    throw new ServerError(0, "Closed", "the connection was closed");
  } catch (error) {
    if (live.stream === stream) lose(error);
  }
}

function opened() {
  live.phase = "live";
  live.openedAt = performance.now();
  heard();
  refresh();
  repaint();
}

function heard() {
  live.heardAt = performance.now();
}

/** A connection may be gone without a word. */
function checkSilence() {
  if (performance.now() - live.heardAt < SILENCE_MS) return;
  throw new ServerError(0, "Silence", "the server is silent");
}

function lose(error) {
  live.stream?.abort();
  live.stream = null;
  stopTimers();
  const isKeyWanted = error.status === 401;
  if (isKeyWanted) {
    live.phase = "locked";
    openKey(key.read() !== null);
    key.forget();
    repaint();
    return;
  }
  if (performance.now() - live.openedAt > STEADY_MS) live.attempt = 0;
  const waitMs = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** live.attempt) * (0.75 + Math.random() / 2);
  live.attempt += 1;
  live.phase = "lost";
  live.reason = error instanceof ServerError ? error.message : "the connection was lost";
  live.retryAt = performance.now() + waitMs;
  later("retry", waitMs, connect);
  repaint();
}

// What is asked for.

/** Ask, and mark what is shown as old when no answer comes for a while. */
async function asked(path, signal) {
  const timer = setTimeout(() => markQuiet(true), QUIET_MS);
  try {
    return await ask(path, { signal });
  } finally {
    clearTimeout(timer);
    markQuiet(false);
  }
}

function markQuiet(isQuiet) {
  if (live.isQuiet === isQuiet) return;
  live.isQuiet = isQuiet;
  repaint();
}

async function takeOverview(signal) {
  const before = Date.now();
  live.askedAt = performance.now();
  const { body, response } = await asked("api/sys/overview", signal);
  live.tookMs = performance.now() - live.askedAt;
  state.overview = body;
  state.access = response.headers.get("Budgetware-Access") ?? "read";
  state.offsetSeconds = (Date.parse(body.at) - (before + Date.now()) / 2) / 1000;
  state.freshAt = performance.now();
  if (body.last_event < state.lastNumber && live.phase !== "live") forgetCalls();
}

/** The calls before now, so that the lists and charts do not begin empty: newest pages first. */
async function takeHistory(signal) {
  if (state.hasHistory) return; // the stream goes on where it was cut
  const pages = [await historyPage("", signal)];
  const begin = serverNow() - SECONDS_KEPT;
  while (pages.length < HISTORY_PAGES && pages[0].events[0]?.timestamp > begin) {
    const before = pages[0].events[0].id - 1;
    if (before < 1) break;
    pages.unshift(await historyPage(`&after=${Math.max(0, before - HISTORY)}`, signal));
    pages[0].events = pages[0].events.filter((call) => call.id <= before);
  }
  for (const call of pages.flatMap((page) => page.events)) takeCall(call.id, call);
  state.lastNumber = Math.max(state.lastNumber, pages.at(-1).last_event);
  state.hasHistory = true;
}

async function historyPage(after, signal) {
  return (await asked(`api/sys/events?limit=${HISTORY}${after}`, signal)).body;
}

async function takeUsage(signal) {
  const midnight = new Date(serverNow() * 1000).toISOString().slice(0, 10);
  live.usageAt = performance.now();
  live.usageNumber = state.lastNumber;
  const { body } = await asked(`usage?since=${midnight}T00:00:00Z`, signal);
  live.usageTookMs = performance.now() - live.usageAt;
  state.usage = body;
  repaint();
}

/** The totals, where they have changed, and it is not too soon to ask for them again. */
async function takeUsageWhenDue(signal) {
  if (live.usageNumber === state.lastNumber && state.usage !== null) return;
  const gapMs = Math.max(USAGE_MS, live.usageTookMs * 20);
  const waitMs = live.usageAt + gapMs - performance.now();
  if (waitMs > 0) later("usage", waitMs, refresh);
  else await takeUsage(signal);
}

/** Ask for the overview, soon: often where it is quick, seldom where it costs the server time. */
function refresh() {
  if (live.phase !== "live") return;
  if (live.isAsking) {
    live.isWanted = true;
    return;
  }
  const gapMs = Math.max(PAINT_MS, live.tookMs * 4);
  const waitMs = live.askedAt + gapMs - performance.now();
  if (document.hidden) return;
  if (waitMs > 0) later("refresh", waitMs, refresh);
  else update();
}

/** Whether the overview was made before the last event: then it is asked for once more. */
function isLate() {
  if (state.overview.last_event >= state.lastNumber || live.lateNumber === state.lastNumber) return false;
  live.lateNumber = state.lastNumber;
  return true;
}

async function update() {
  const { stream } = live;
  live.isAsking = true;
  live.isWanted = false;
  try {
    await takeOverview(stream.signal);
    repaint();
    checkSilence();
    if (isLate()) live.isWanted = true;
    await takeUsageWhenDue(stream.signal);
  } catch (error) {
    if (live.stream === stream) lose(error);
  }
  live.isAsking = false;
  if (live.phase !== "live") return;
  if (live.isWanted) refresh();
  later("idle", Math.max(IDLE_MS, live.tookMs * 10), refresh);
}

function arrived(kind, id, data) {
  if (kind === "dropped") {
    state.skipped += JSON.parse(data).count ?? 1;
  } else if (kind === "usage") {
    const call = JSON.parse(data);
    if (!takeCall(Number(id), call)) return;
    if (isRefused(call)) announcer.tell(call);
  }
  refresh();
  later("gather", GATHER_MS, repaint); // most often the overview is there sooner
}
