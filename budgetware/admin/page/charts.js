// Four small charts of the last five minutes, drawn by hand.

const BUCKET_SECONDS = 3;
const BUCKETS = 100;
const NOW_SECONDS = 10;
const WIDTH = 300;
const HEIGHT = 56;
const CHARTS = [
  { name: "calls", title: "Calls / s", show: rateText },
  { name: "refused", title: "Refusals / s", show: rateText },
  { name: "tokens", title: "Tokens / s", show: (n) => countText(Math.round(n)) },
  { name: "usd", title: "Cost / s", show: (n) => moneyText(n) },
];

class Chart {
  constructor({ name, title, show }) {
    this.name = name;
    this.title = title;
    this.show = show;
    this.cursor = null;
    this.line = draw("path", { class: "stroke" });
    this.area = draw("path", { class: "area" });
    this.mark = draw("line", { class: "mark", y1: 0, y2: HEIGHT, x1: -1, x2: -1 });
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
    this.picture = draw("svg", box, this.area, this.line, this.mark);
    this.value = make("strong", "now");
    this.peak = make("span", "about");
    const heading = make("h2", "", title);
    this.plot = make("div", "plot", this.picture);
    this.node = make("div", `chart ${name}`, make("div", "line", heading, this.value, this.peak), this.plot);
    this._listen();
  }

  _listen() {
    const { plot } = this;
    plot.tabIndex = 0;
    setAttribute(plot, "role", "slider");
    setAttribute(plot, "aria-label", `${this.title}, the last five minutes`);
    setAttribute(plot, "aria-valuemin", 0);
    setAttribute(plot, "aria-valuemax", BUCKETS - 1);
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      this._point(Math.floor(((event.clientX - box.left) / box.width) * BUCKETS));
    });
    plot.addEventListener("pointerleave", () => this._point(null));
    plot.addEventListener("blur", () => this._point(null));
    plot.addEventListener("keydown", (event) => this._press(event));
  }

  _press(event) {
    const now = this.cursor ?? BUCKETS - 1;
    const moved = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: BUCKETS - 1 }[event.key];
    if (moved === undefined) return;
    event.preventDefault();
    this._point(moved);
  }

  _point(index) {
    this.cursor = index === null ? null : Math.max(0, Math.min(BUCKETS - 1, index));
    repaintNow();
  }

  paint(series, now) {
    const end = Math.floor(now / BUCKET_SECONDS) * BUCKET_SECONDS;
    const start = end - BUCKETS * BUCKET_SECONDS;
    const values = Array.from({ length: BUCKETS }, (_, index) => {
      const from = start + index * BUCKET_SECONDS;
      return Math.max(0, series.sum(this.name, from, from + BUCKET_SECONDS)) / BUCKET_SECONDS;
    });
    const last = Math.max(0, series.sum(this.name, Math.floor(now) - NOW_SECONDS, Math.floor(now) + 1));
    this._trace(values);
    this._tell(values, start, last / NOW_SECONDS);
  }

  _trace(values) {
    const top = Math.max(...values, 1e-9) * 1.08;
    const step = WIDTH / (BUCKETS - 1);
    const heightOf = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 3);
    const spot = (value, index) => `${(index * step).toFixed(1)} ${heightOf(value).toFixed(1)}`;
    const path = `M${values.map(spot).join("L")}`;
    if (path === this.path) return;
    this.path = path;
    this.line.setAttribute("d", path);
    this.area.setAttribute("d", `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
  }

  _tell(values, start, now) {
    const index = this.cursor;
    const x = index === null ? -1 : (index * WIDTH) / (BUCKETS - 1);
    setAttribute(this.mark, "x1", x);
    setAttribute(this.mark, "x2", x);
    const peak = `peak ${this.show(Math.max(...values))}`;
    const at = index === null ? "" : `at ${clockText(start + index * BUCKET_SECONDS)}`;
    const value = this.show(index === null ? now : values[index]);
    setText(this.value, value);
    setText(this.peak, index === null ? peak : at);
    setAttribute(this.plot, "aria-valuenow", index ?? BUCKETS - 1);
    setAttribute(this.plot, "aria-valuetext", index === null ? `now ${value}, ${peak}` : `${value} ${at}`);
  }
}

class Charts {
  constructor() {
    this.charts = CHARTS.map((chart) => new Chart(chart));
    find("charts").append(...this.charts.map((chart) => chart.node));
  }

  paint() {
    const now = serverNow();
    state.series.advance(Math.floor(now));
    for (const chart of this.charts) chart.paint(state.series, now);
  }
}
