// Numbers and names as people read them; the same texts as budgetware/formats.py makes.

const PLAIN = /^[\x20-\x7e]*$/;
const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** Escape what is not shown or acts on what is around it: control and format characters. */
function visible(value) {
  const given = String(value ?? "");
  if (PLAIN.test(given)) return given;
  return given.replace(/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, (character) => {
    const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
    const code = character.codePointAt(0);
    const [width, letter] = code < 0x100 ? [2, "x"] : code < 0x10000 ? [4, "u"] : [8, "U"];
    return short ?? `\\${letter}${code.toString(16).padStart(width, "0")}`;
  });
}

function scaled(n, base, words) {
  if (n < base) return [String(n), words[0]];
  let unit = 1;
  let tenths = 0;
  let word = words[0];
  for (word of words.slice(1)) {
    unit *= base;
    tenths = Math.floor(n / (unit / 10) + 0.5);
    if (tenths < base * 10) break;
  }
  return [`${Math.floor(tenths / 10)}.${tenths % 10}`, word];
}

/** `999`, `1.5k`, `999.9k`, `1.0M`. */
function countText(n) {
  if (n < 0) return `-${countText(-n)}`;
  return scaled(n, 1000, ["", "k", "M", "G", "T", "P"]).join("");
}

/** `12.4` a second; from a thousand on as a count. */
function rateText(n) {
  return Math.abs(n) < 999.95 ? n.toFixed(1) : countText(Math.round(n));
}

/** `512 B`, `2.0 KiB`. */
function bytesText(n) {
  if (n < 0) return `-${bytesText(-n)}`;
  return scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]).join(" ");
}

function trimmed(value, places) {
  const text = value.toFixed(places);
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

/** `250ms`, `1.5s`, `2m05s`, `2h30m`, `1d02h`. */
function durationText(seconds) {
  if (!Number.isFinite(seconds)) return "-";
  if (seconds < 0) return `-${durationText(-seconds)}`;
  if (seconds < 0.9995) {
    const millis = trimmed(seconds * 1000, seconds < 0.001 ? 3 : 0);
    return millis === "0" ? "0s" : `${millis}ms`;
  }
  if (seconds < 59.95) return `${trimmed(seconds, 1)}s`;
  const two = (n) => String(n).padStart(2, "0");
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  const minutes = Math.floor((whole + 30) / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h${two(minutes % 60)}m`;
  const hours = Math.floor((whole + 1800) / 3600);
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`;
}

/** Dollars with two to four places, tiny ones with six: `$5.00`, `$0.0123`, `$0.000012`. */
function moneyText(dollars) {
  return dollarsText(dollars, Math.abs(Number(dollars)) < 0.0001 ? 6 : 4);
}

function dollarsText(dollars, most) {
  const number = Number(dollars);
  if (!Number.isFinite(number)) return "-";
  const [whole, places] = Math.abs(number).toFixed(most).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const sign = number <= -0.0000005 ? "-" : "";
  return `${sign}$${grouped}.${places.replace(/0+$/, "").padEnd(2, "0")}`;
}

/** An amount of a dimension as what it is: dollars, a size, a time or a count. */
function amountText(dim, amount) {
  if (amount === null || amount === undefined) return "-";
  if (dim === "usd") return moneyText(amount);
  const n = Number(amount);
  if (dim === "bytes" || dim === "memory") return bytesText(n);
  if (dim === "millis") return durationText(n / 1000);
  if (dim === "cpu_micros") return durationText(n / 1e6);
  return countText(n);
}

/** The same to the last digit, for tooltips. */
function exactText(dim, amount) {
  if (amount === null || amount === undefined) return "-";
  if (dim === "usd") return dollarsText(amount, 6);
  return WHOLE.format(Number(amount));
}

function clockText(seconds) {
  return new Date(seconds * 1000).toTimeString().slice(0, 8);
}

function plural(n, word) {
  return `${countText(n)} ${word}${n === 1 ? "" : "s"}`;
}
