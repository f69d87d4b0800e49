// What asks before it acts: the key, a top-up, a termination.

/** A number no other request has, made without what only secure pages may use. */
function newRequestId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A dialog with a form: opens, sends, shows what went wrong, closes when it is done. */
class Form {
  constructor(id, send) {
    this.dialog = find(id);
    this.form = this.dialog.querySelector("form");
    this.error = this.dialog.querySelector(".error");
    this.submit = this.dialog.querySelector("button[type=submit]");
    this.send = send;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._run();
    });
    for (const control of this.dialog.querySelectorAll(".cancel")) {
      control.addEventListener("click", () => this.dialog.close());
    }
  }

  open() {
    setText(this.error, "");
    this.submit.disabled = false;
    if (!this.dialog.open) this.dialog.showModal();
  }

  async _run() {
    if (this.submit.disabled) return;
    this.submit.disabled = true;
    setText(this.error, "");
    try {
      await this.send(this.form);
      this.dialog.close();
    } catch (error) {
      setText(this.error, error.message);
    }
    this.submit.disabled = false;
  }
}

function pathOf(task, verb) {
  return `api/sys/tasks/${encodeURIComponent(task.id)}/${verb}`;
}

function report(text) {
  setText(find("result"), text);
  refresh();
}

// Terminate.

let ending = null;

const terminationForm = new Form("terminate", async (form) => {
  const reason = form.elements.reason.value.trim();
  await ask(pathOf(ending, "terminate"), { method: "POST", body: { reason } });
  report(`Terminated ${ending.name}.`);
});

function openTermination(task) {
  ending = task;
  setText(find("terminate-name"), task.path);
  terminationForm.form.reset();
  terminationForm.open();
}

// Top up. The request's number is made once per dialog: sent again, it counts once.

let topping = null;

const topUpForm = new Form("top-up", async () => {
  const amounts = Object.fromEntries(topping.fields.map(amountOf).filter((entry) => entry !== null));
  if (Object.keys(amounts).length === 0) throw new Error("Give an amount to add.");
  const body = { amounts, request_id: topping.requestId };
  try {
    await ask(pathOf(topping.task, "top_up"), { method: "POST", body });
  } catch (error) {
    if (!error.isAnswer) lockAmounts();
    if (error.isAnswer) throw error;
    throw new Error(`${error.message}. It may have counted: send it again, it counts once.`);
  }
  const one = ([dim, amount]) => `${dim} +${dim === "usd" ? exactText(dim, amount) : amount}`;
  const told = Object.entries(amounts).map(one);
  report(`Topped up ${topping.task.name}: ${told.join(", ")}.`);
});

/** Whether it has counted is not known, so what is sent again must be the same. */
function lockAmounts() {
  for (const { input } of topping.fields) input.readOnly = true;
}

function amountOf({ dim, input }) {
  const text = input.value.trim().replace(/[,_ ]/g, "");
  if (text === "") return null;
  if (dim === "usd" && /^\d+(\.\d{1,6})?$/.test(text)) return [dim, text];
  if (dim !== "usd" && /^\d+$/.test(text) && Number.isSafeInteger(Number(text))) return [dim, Number(text)];
  const wanted = dim === "usd" ? "amount of dollars" : "whole number";
  throw new Error(`${dim}: ${input.value} is no ${wanted}.`);
}

function fieldOf([dim, balance]) {
  const name = dim === "millis" ? "seconds" : dim;
  const input = make("input");
  const inputMode = dim === "usd" ? "decimal" : "numeric";
  Object.assign(input, { name, inputMode, autocomplete: "off", maxLength: 20 });
  const title = make("span", "dim");
  setText(title, name === "usd" ? "usd (dollars)" : name);
  const hint = make("span", "about");
  setText(hint, `${amountText(dim, balance.remaining)} left of ${amountText(dim, balance.limit)}`);
  return { dim: name, input, node: make("label", "field", title, input, hint) };
}

function openTopUp(task) {
  const limited = dimsOf(task.dims).filter(([, balance]) => balance.limit !== null);
  topping = { task, requestId: newRequestId(), fields: limited.map(fieldOf) };
  setText(find("top-up-name"), task.path);
  find("amounts").replaceChildren(...topping.fields.map((field) => field.node));
  topUpForm.open();
}

// The key.

const keyForm = new Form("key", async (form) => {
  const text = form.elements.secret.value.trim();
  if (!key.isFit(text)) throw new Error("This is no key: it has spaces or other characters no key has.");
  key.write(text);
  form.reset();
  forgetCalls();
  connect();
});

function openKey(isRefusal) {
  if (keyForm.dialog.open) return;
  keyForm.open();
  setText(keyForm.error, isRefusal ? "The server does not know this key." : "");
}
