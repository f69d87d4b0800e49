// The tree of tasks: a treegrid, walked with the arrow keys, of which only a part is in the page.

/** Which tasks are shown, in order, with their depth: parents first, folded ones without children. */
class Outline {
  constructor() {
    this.folded = new Set();
  }

  /** Each visible task as `{task, level, place, siblings, isParent, isFolded}`. */
  lines(tasks, wanted) {
    const ids = new Set(tasks.map((task) => task.id));
    for (const id of this.folded) if (!ids.has(id)) this.folded.delete(id);
    const children = new Map();
    for (const task of tasks) {
      const parent = ids.has(task.parent) ? task.parent : null;
      if (!children.has(parent)) children.set(parent, []);
      children.get(parent).push(task);
    }
    const kept = wanted === null ? null : this._withAncestors(tasks, wanted);
    const lines = [];
    this._add(lines, children, kept, null, 1);
    return lines;
  }

  _withAncestors(tasks, wanted) {
    const known = new Map(tasks.map((task) => [task.id, task]));
    const kept = new Set();
    for (const task of tasks) {
      if (!wanted(task)) continue;
      for (let t = task; t && !kept.has(t.id); t = known.get(t.parent)) kept.add(t.id);
    }
    return kept;
  }

  _add(lines, children, kept, parent, level) {
    const below = (id) => (children.get(id) ?? []).filter((task) => !kept || kept.has(task.id));
    const siblings = below(parent);
    siblings.forEach((task, index) => {
      const isParent = below(task.id).length > 0;
      const isFolded = isParent && !kept && this.folded.has(task.id);
      const place = { level, place: index + 1, siblings: siblings.length };
      lines.push({ task, ...place, isParent, isFolded });
      if (isParent && !isFolded) this._add(lines, children, kept, task.id, level + 1);
    });
  }
}

class TaskRow {
  constructor(tree) {
    this.tree = tree;
    this.name = make("bdi", "name");
    this.about = make("span", "about");
    this.badge = make("span", "badge");
    this.fold = button("", "fold", () => tree.toggle(this.task.id));
    this.fold.setAttribute("aria-hidden", "true");
    this.fold.tabIndex = -1;
    const dims = make("div", "meters");
    this.meters = new Meters(dims);
    this.topUp = button("Top up", "quiet", () => openTopUp(this.task));
    this.end = button("Terminate", "quiet danger", () => openTermination(this.task));
    this.actions = this._cell("actions", this.topUp, this.end);
    const title = make("div", "title", make("div", "line", this.name, this.badge), this.about);
    this.node = make("div", "task", this._cell("who", this.fold, title), this._cell("what", dims));
    this.node.append(this.actions);
    this.node.setAttribute("role", "row");
    this.node.tabIndex = -1;
  }

  _cell(className, ...children) {
    const cell = make("div", className, ...children);
    cell.setAttribute("role", "gridcell");
    return cell;
  }

  update({ task, level, place, siblings, isParent, isFolded }) {
    this.task = task;
    this.isParent = isParent;
    setAttribute(this.node, "data-task", task.id);
    setAttribute(this.node, "aria-level", level);
    setAttribute(this.node, "aria-posinset", place);
    setAttribute(this.node, "aria-setsize", siblings);
    setAttribute(this.node, "aria-expanded", isParent ? String(!isFolded) : null);
    setStyle(this.node, "--level", String(Math.min(level, 12) - 1));
    setText(this.name, task.name);
    setAttribute(this.name, "title", task.path);
    setText(this.about, this._about(task));
    this._judge(task);
    this.meters.update(task.dims);
    this._offer(task);
  }

  _about(task) {
    const seconds = Math.floor(serverNow() - Date.parse(task.started_at) / 1000);
    const age = task.started_at ? [durationText(Math.max(0, seconds))] : [];
    const whose = task.principal ? [`for ${task.principal}`] : [];
    const shared = task.is_shared ? ["shared"] : [];
    const policy = task.policy ? [task.policy] : [];
    return [...whose, ...policy, ...shared, ...age].join(" · ");
  }

  _judge(task) {
    const word = stateOf(task);
    setText(this.badge, word === "ok" ? "" : word);
    setAttribute(this.badge, "data-level", { warn: "warn", ok: "ok" }[word] ?? "over");
    setClass(this.node, "ended", word === "terminated");
  }

  _offer(task) {
    setHidden(this.actions, state.access !== "write");
    for (const [control, verb] of [[this.topUp, "Top up"], [this.end, "Terminate"]]) {
      setAttribute(control, "aria-label", `${verb} ${task.name}`);
      setDisabled(control, isLatched(task));
      const index = this.node === this.tree.active ? 0 : -1;
      if (control.tabIndex !== index) control.tabIndex = index;
    }
  }
}

function isLatched(task) {
  return task.latched !== null && task.latched !== undefined && task.latched !== false;
}

/** `terminated`, or the worst of what the server and the balances say. */
function stateOf(task) {
  if (isLatched(task)) return "terminated";
  const verdict = typeof task.verdict === "object" ? task.verdict?.name : task.verdict;
  if (verdict === "exhausted") return "exhausted";
  const levels = Object.values(task.dims).map(levelOf);
  if (levels.includes("over")) return "at limit";
  return verdict === "warn" || levels.includes("warn") ? "warn" : "ok";
}

class Tree {
  constructor() {
    this.node = find("tree");
    this.filter = find("filter");
    this.short = find("short");
    this.outline = new Outline();
    this.rows = new Rows(this.node, () => new TaskRow(this));
    this.cap = new Cap(find("more-tasks"), 60, 200);
    this.active = null;
    this.node.addEventListener("keydown", (event) => this._press(event));
    this.node.addEventListener("focusin", (event) => this._activate(event.target.closest(".task")));
    for (const control of [this.filter, this.short]) control.addEventListener("input", () => repaintNow());
  }

  paint({ tasks }) {
    const lines = this.outline.lines(tasks, this._wanted());
    const hadFocus = this.node.contains(document.activeElement);
    this.rows.show(this.cap.cut(lines), (line) => line.task.id);
    if (!this.active?.isConnected) this._settle(hadFocus);
    setText(find("task-count"), tasks.length ? countText(tasks.length) : "");
    const isEmpty = lines.length === 0;
    setHidden(find("no-tasks"), !isEmpty);
    setHidden(this.node, isEmpty);
    setText(find("no-tasks"), tasks.length ? "No budget matches the filter." : "No budget is open.");
  }

  _wanted() {
    const text = this.filter.value.trim().toLowerCase();
    if (!text && !this.short.checked) return null;
    const has = (value) => visible(value).toLowerCase().includes(text);
    return (task) =>
      (!this.short.checked || stateOf(task) !== "ok") &&
      (has(task.path) || has(task.name) || has(task.principal) || task.id.toLowerCase() === text);
  }

  toggle(id) {
    const { folded } = this.outline;
    if (!folded.delete(id)) folded.add(id);
    repaintNow();
  }

  /** The one row, and its buttons, that the tab key reaches. */
  _activate(row) {
    if (!row || row === this.active) return;
    if (this.active) this._reach(this.active, -1);
    this.active = row;
    this._reach(row, 0);
  }

  _reach(row, index) {
    row.tabIndex = index;
    for (const control of row.querySelectorAll(".actions button")) control.tabIndex = index;
  }

  /** The active row is gone: the first one takes its place, and the focus, if it was there. */
  _settle(hadFocus) {
    this.active = null;
    this._activate(this.node.firstElementChild);
    if (hadFocus) this.active?.focus();
  }

  _press(event) {
    const row = event.target.closest(".task");
    const isOnRow = event.target === row;
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) this._move(row, step);
    else if (!isOnRow) return;
    else if (event.key === "ArrowRight") this._open(row);
    else if (event.key === "ArrowLeft") this._close(row);
    else if (event.key === "Enter" && row.ariaExpanded) this.toggle(row.dataset.task);
    else return;
    event.preventDefault();
  }

  _move(row, step) {
    const all = [...this.node.children];
    const index = Math.max(0, Math.min(all.length - 1, all.indexOf(row) + step));
    all[index].focus();
  }

  _open(row) {
    if (row.ariaExpanded === "false") this.toggle(row.dataset.task);
    else if (row.ariaExpanded === "true") row.nextElementSibling?.focus();
  }

  _close(row) {
    if (row.ariaExpanded === "true") {
      this.toggle(row.dataset.task);
      return;
    }
    for (let above = row.previousElementSibling; above; above = above.previousElementSibling) {
      if (Number(above.ariaLevel) < Number(row.ariaLevel)) {
        above.focus();
        return;
      }
    }
  }
}
