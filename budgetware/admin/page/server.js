// Talking to the server: requests with the key, and the stream of events.

const KEY = "budgetware.key";
const PATIENCE_MS = 15_000;
const HEADERS = /^[\x21-\x7e]+$/;

class ServerError extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }

  /** Whether the server has said no; otherwise it may have done what was asked. */
  get isAnswer() {
    return this.status >= 400 && this.status < 500;
  }
}

const key = {
  read: () => sessionStorage.getItem(KEY),
  write: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
  isFit: (text) => HEADERS.test(text),
};

function headers(extra = {}) {
  const secret = key.read();
  return secret ? { Authorization: `Bearer ${secret}`, ...extra } : extra;
}

async function answerOf(response) {
  const type = response.headers.get("Content-Type") ?? "";
  const body = type.includes("json") ? await response.json() : null;
  if (response.ok) return body;
  const error = body?.error ?? {};
  const said = error.message ?? `the server answered ${response.status}`;
  throw new ServerError(response.status, error.type ?? "Error", said);
}

/** Ask for a path relative to the page; gives the JSON and the response. */
async function ask(path, { method = "GET", body = null, signal = null } = {}) {
  const limits = [AbortSignal.timeout(PATIENCE_MS), ...(signal ? [signal] : [])];
  const sent = body === null ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: headers({ Accept: "application/json", ...sent }),
      body: body === null ? null : JSON.stringify(body),
      signal: AbortSignal.any(limits),
      cache: "no-store",
    });
    return { body: await answerOf(response), response };
  } catch (error) {
    if (error instanceof ServerError) throw error;
    throw new ServerError(0, "NoAnswer", "the server does not answer");
  }
}

/** The answer that events come in, once it has begun; how long it goes on is not limited. */
async function openStream(after, signal) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    const response = await fetch("events", {
      headers: headers({ Accept: "text/event-stream", "Last-Event-ID": String(after) }),
      signal: AbortSignal.any([signal, patience.signal]),
      cache: "no-store",
    });
    if (!response.ok) await answerOf(response);
    return response;
  } finally {
    clearTimeout(timer);
  }
}

/** Read events from after a number on, until the connection ends. */
async function listen(after, signal, { opened, heard, arrived }) {
  const response = await openStream(after, signal);
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser(arrived);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    parser.feed(value);
  }
}

/** The lines of `text/event-stream`, put together to events. */
class EventParser {
  constructor(arrived) {
    this.arrived = arrived;
    this.rest = "";
    this._clear();
  }

  _clear() {
    this.event = "message";
    this.id = null;
    this.data = [];
  }

  feed(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this._line(line);
  }

  _line(line) {
    if (line === "") {
      if (this.data.length) this.arrived(this.event, this.id, this.data.join("\n"));
      this._clear();
      return;
    }
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
    else if (name === "id") this.id = value;
  }
}
