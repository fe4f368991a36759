// Formats values for people, as whimbrel/dashboard/formats.py does on the server, and times in the zone of the viewer.

export const NONE = "–";

export function number(value) {
  if (value === null || value === undefined) return NONE;
  const digits = Number.isInteger(value) || Math.abs(value) >= 10 ? 0 : 1;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A share of 1 as `12.3 %`; never 0 % or 100 % where that is only nearly so. */
export function percent(share) {
  if (share === null || share === undefined) return NONE;
  const value = 100 * share;
  if (value === 0 || value === 100) return `${value} %`;
  const shown = value > 0 && value < 100 ? Math.min(99.9, Math.max(0.1, value)) : value;
  return `${shown.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} %`;
}

/** Seconds as `0.4 s`, `12 s`, `3 min 12 s`, `2 h 5 min`, `4 d 3 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 10) return seconds <= 0 ? "0 s" : `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 86400) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86400, "d", 3600, "h");
}

function two(seconds, large, name, small, smallName) {
  const rest = Math.floor((seconds % large) / small);
  return `${number(Math.floor(seconds / large))} ${name}${rest ? ` ${rest} ${smallName}` : ""}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const dated = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** A moment in the zone of the viewer: the time alone where it is of today. */
export function time(moment) {
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return String(moment);
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : dated.format(at);
}

/** Writes all `<time>` within an element in the zone of the viewer; the whole date is its title. */
export function localize(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const text = time(at);
    if (element.textContent !== text) element.textContent = text;
    element.title = whole.format(at);
  }
}
