// Puts the parts together, and paints: at most four times a second, unless somebody acts.

const tree = new Tree();
const calls = new Calls();
const charts = new Charts();
const announcer = new Announcer();
const resources = new List("resources", () => new ResourceRow());
const principals = new List("principals", () => new PrincipalRow());
const painting = { at: -Infinity, isDue: false, timer: null };

function repaint() {
  if (painting.isDue) return;
  painting.isDue = true;
  const waitMs = Math.max(0, painting.at + PAINT_MS - performance.now());
  painting.timer = setTimeout(() => requestAnimationFrame(paint), waitMs);
}

/** Somebody has done something, and waits for what it does. */
function repaintNow() {
  clearTimeout(painting.timer);
  painting.isDue = true;
  requestAnimationFrame(paint);
}

function paint() {
  if (!painting.isDue) return;
  painting.isDue = false;
  painting.at = performance.now();
  paintStatus();
  if (live.isPaused || !state.overview) return;
  tree.paint(state.overview);
  resources.paint(state.overview.resources);
  paintNoResources(state.usage);
  principals.paint(state.overview.principals);
  charts.paint();
  calls.paint();
  paintTotals(state.usage);
}

const WORDS = {
  starting: "Connecting",
  live: "Live",
  paused: "Paused",
  quiet: "No answer",
  lost: "Connection lost",
  locked: "Key needed",
};

function paintStatus() {
  const { phase, isPaused } = live;
  const shown = phase !== "live" ? phase : live.isQuiet ? "quiet" : isPaused ? "paused" : "live";
  const isStale = (phase !== "live" || live.isQuiet) && state.overview !== null;
  setText(find("status"), WORDS[shown]);
  setAttribute(find("status"), "data-phase", shown);
  setAttribute(document.body, "data-stale", isStale ? "" : null);
  setText(find("ledger"), state.overview?.ledger ?? "");
  setHidden(find("forget"), key.read() === null);
  setHidden(find("lost"), phase !== "lost");
  if (phase === "lost") setText(find("lost-text"), lostText());
}

function lostText() {
  const said = `No connection: ${live.reason}.`;
  if (!state.overview) return said;
  return `${said} What is shown is of ${clockText(Date.parse(state.overview.at) / 1000)}.`;
}

function start() {
  find("pause").addEventListener("click", () => {
    live.isPaused = !live.isPaused;
    setAttribute(find("pause"), "aria-pressed", String(live.isPaused));
    repaintNow();
  });
  find("forget").addEventListener("click", () => {
    key.forget();
    location.reload();
  });
  find("retry").addEventListener("click", () => connect());
  window.addEventListener("online", () => live.phase === "lost" && connect());
  document.addEventListener("visibilitychange", () => !document.hidden && refresh());
  setInterval(repaint, 1_000); // ages and charts go on where nothing happens
  repaint();
  connect();
}

start();
