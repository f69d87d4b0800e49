// The only code that makes or changes elements. Texts go in as texts, never as markup, and a node
// is touched only where what it shows has changed.

function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function find(id) {
  return document.getElementById(id);
}

/** Whether a node shows something else so far; what it shows is kept beside it, in `shown`. */
function isNew(node, name, value) {
  node.shown ??= {};
  if (node.shown[name] === value) return false;
  node.shown[name] = value;
  return true;
}

function setText(node, value) {
  if (isNew(node, "", value)) node.textContent = visible(value);
}

function setAttribute(node, name, value) {
  if (!isNew(node, name, value)) return;
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, visible(value));
}

function setClass(node, name, isOn) {
  if (isNew(node, name, isOn)) node.classList.toggle(name, isOn);
}

function setHidden(node, isHidden) {
  if (isNew(node, "hidden", isHidden)) node.hidden = isHidden;
}

function setDisabled(node, isDisabled) {
  if (isNew(node, "disabled", isDisabled)) node.disabled = isDisabled;
}

function setStyle(node, name, value) {
  if (isNew(node, name, value)) node.style.setProperty(name, value);
}

function button(label, className, act) {
  const node = make("button", className, label);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

/**
 * The rows of one container, each known by a key: what is there stays, only what is new is made,
 * and only what changed its place moves.
 */
class Rows {
  constructor(container, create) {
    this.container = container;
    this.create = create;
    this.rows = new Map();
  }

  show(items, keyOf) {
    const keys = new Set(items.map(keyOf));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      row.node.remove();
      this.rows.delete(key);
    }
    let next = this.container.firstElementChild;
    for (const item of items) {
      const row = this._row(keyOf(item), item);
      row.update(item);
      if (row.node === next) next = next.nextElementSibling;
      else this.container.insertBefore(row.node, next);
    }
  }

  _row(key, item) {
    if (!this.rows.has(key)) this.rows.set(key, this.create(item));
    return this.rows.get(key);
  }
}

/** How many items of a long list are shown, with a button for more of them. */
class Cap {
  constructor(more, first, step) {
    this.button = more;
    this.limit = first;
    this.step = step;
    more.addEventListener("click", () => {
      this.limit += this.step;
      repaintNow();
    });
  }

  cut(items) {
    const left = items.length - this.limit;
    setHidden(this.button, left <= 0);
    if (left <= 0) return items;
    setText(this.button, `Show ${Math.min(left, this.step)} more of ${items.length}`);
    return items.slice(0, this.limit);
  }
}
