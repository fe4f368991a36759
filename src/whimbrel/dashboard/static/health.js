// The database's health: kept up to date; a signal is overridden, and heeded again.

import { act } from "./actions.js";
import { number } from "./formats.js";
import { liveParts } from "./live.js";

const page = liveParts(["signals", "members"], { every: 2000 });
const address = (name) => `/health/signals/${encodeURIComponent(name)}`;
const form = document.getElementById("override-form");
const thresholds = document.getElementById("thresholds-form");

function until(answer) {
  return answer.ignoredUntil ? `Runs ignore ${answer.name} until ${new Date(answer.ignoredUntil).toLocaleString()}.` : `Runs heed ${answer.name} again.`;
}

document.addEventListener("click", (event) => {
  const heeded = event.target.closest("[data-heed]");
  if (heeded) {
    act(heeded, { method: "PATCH", path: address(heeded.dataset.heed), body: { ignoreSeconds: 0, note: "taken back on the dashboard" }, said: until, done: page.now });
  }
  const chosen = event.target.closest("[data-choose]");
  if (chosen && form) {
    event.preventDefault();
    form.elements.signal.value = chosen.dataset.choose;
    document.getElementById("override").scrollIntoView();
    form.elements.seconds.focus();
  }
});

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { signal, seconds, note } = form.elements;
  act(form.querySelector("button"), {
    method: "PATCH", path: address(signal.value), body: { ignoreSeconds: Number(seconds.value), note: note.value }, said: until, done: page.now,
  });
});

thresholds?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { slow, stop, reset } = thresholds.elements;
  const body = {};
  if (slow.value.trim()) body.slow = Number(slow.value);
  if (stop.value.trim()) body.stop = Number(stop.value);
  if (reset.checked) body.reset = true;
  act(thresholds.querySelector("button"), {
    method: "PATCH", path: address(form.elements.signal.value), body, done: page.now,
    said: (answer) => `${answer.name}: slower from ${number(answer.slow)}, waits from ${number(answer.stop)}.`,
  });
});
