// Whether what the page shows is true now: the age of its data, and a connection that was lost.

import { duration, localize, time } from "./formats.js";

const STALE = 5; // seconds after which the age is said in words
const lost = new Map(); // by who reads, since when its reads fail
let newest = Date.parse(document.body.dataset.at || "") || Date.now();
let live = false;
let ended = false;

/** A read has succeeded: if it is of the page's `data`, these are so old, in seconds. */
export function succeeded(reader, data = true, age = 0) {
  lost.delete(reader);
  if (data) {
    newest = Date.now() - 1000 * age;
    live = true;
  }
  show();
}

/** A read has failed. `why`: a sentence of the server, or nothing. */
export function failed(reader, why = "") {
  if (!lost.has(reader)) lost.set(reader, { since: Date.now(), why });
  lost.get(reader).why = why;
  show();
}

/** Nobody reads for this reader any more, as while the tab is hidden. */
export function forget(reader) {
  lost.delete(reader);
  show();
}

/** The session is over: the page says how to go on. */
export function sessionEnded() {
  if (ended) return;
  ended = true;
  lost.set("session", { since: Date.now(), why: "" });
  const box = document.getElementById("lost");
  const link = document.createElement("a");
  link.href = `/dashboard/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Log in again";
  box?.replaceChildren("Your session has ended, so this page shows old data. ", link);
  if (box) box.hidden = false;
  document.body.dataset.connection = "lost";
}

function show() {
  if (ended) return;
  const isLost = lost.size > 0;
  const state = isLost ? "lost" : live ? "live" : "";
  if (state) document.body.dataset.connection = state;
  const box = document.getElementById("lost");
  if (box && isLost !== !box.hidden) {
    box.hidden = !isLost;
  }
  if (box && isLost) {
    const why = [...lost.values()].map((each) => each.why).find(Boolean) ?? "";
    say(box, `The connection is lost: this page shows data of ${time(newest)}. It asks again every second.${why ? ` ${why}` : ""}`);
  }
  tell();
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tell() {
  const place = document.querySelector("[data-age]");
  if (!place) return;
  const age = Math.max(0, (Date.now() - newest) / 1000);
  if (live && !lost.size && age < STALE) say(place, "Live");
  else say(place, `Data from ${time(newest)}, ${duration(Math.floor(age / 5) * 5 || age)} ago`);
}

localize(document);
tell();
setInterval(tell, 1000);
