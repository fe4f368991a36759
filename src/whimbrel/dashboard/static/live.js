// Keeps a page up to date while its tab is visible: by JSON that is asked for again and again, by parts of the page itself, or by a stream of events.

import { failed, forget, sessionEnded, succeeded } from "./connection.js";
import { localize } from "./formats.js";
import { seat } from "./stream_seats.js";

const PATIENCE = 10_000; // milliseconds that an answer may take
const AGAIN = 1000; // milliseconds after a failure
let readers = 0;

/**
 * Fetches JSON again and again while the tab is visible, and calls `render(json)` when it has changed.
 * Returns { now, stop }: `now()` asks at once, as after an action, and resolves to whether the server has answered. `headers`: of each request. `data`: whether it is what the page is about.
 */
export function live(url, render, { every = 1000, headers = {}, data = true } = {}) {
  const reader = `live ${(readers += 1)}`;
  let tag = "";
  let timer = 0;
  let asking = false;
  let again = false;
  let stopped = false;

  async function ask() {
    clearTimeout(timer);
    if (stopped || document.visibilityState !== "visible") return false;
    if (asking) {
      again = true;
      return false;
    }
    asking = true;
    let pause = every;
    try {
      const known = tag ? { "If-None-Match": tag } : {};
      const address = typeof url === "function" ? url() : url;
      const answer = await fetch(address, { headers: { Accept: "application/json", ...headers, ...known }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (answer.status === 401) {
        stopped = true;
        sessionEnded();
        return false;
      }
      if (answer.status !== 304) {
        const body = await answer.json();
        if (!answer.ok) throw new Refused(body.error ?? "", Number(answer.headers.get("Retry-After")) * 1000);
        tag = answer.headers.get("ETag") ?? "";
        render(body);
      }
      succeeded(reader, data);
      return true;
    } catch (error) {
      failed(reader, error instanceof Refused ? error.message : "");
      pause = Math.max(AGAIN, error instanceof Refused ? error.pause || 0 : 0);
      return false;
    } finally {
      asking = false;
      if (!stopped) timer = setTimeout(ask, again ? 0 : pause);
      again = false;
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") ask();
    else forget(reader);
  });
  timer = setTimeout(ask, every);
  return {
    now: ask,
    stop() {
      stopped = true;
      clearTimeout(timer);
      forget(reader);
    },
  };
}

class Refused extends Error {
  constructor(why, pause) {
    super(why);
    this.pause = pause;
  }
}

/**
 * Keeps parts of this page up to date: the server renders the blocks of these names of the page's template again, and the
 * elements with `data-part="NAME"` get what has changed. `changed(names)`: called after that. `url`: where the blocks are, if elsewhere.
 */
export function liveParts(names, { every = 1000, changed = () => {}, url = () => location.pathname + location.search, data = true } = {}) {
  const shown = new Map();
  const show = (parts) => {
    const news = Object.entries(parts).filter(([name, markup]) => shown.get(name) !== markup);
    for (const [name, markup] of news) {
      shown.set(name, markup);
      const element = document.querySelector(`[data-part="${name}"]`);
      if (element) replaceContent(element, markup);
    }
    if (news.length) changed(news.map(([name]) => name));
  };
  return live(url, show, { every, data, headers: { Accept: "text/html", "X-Parts": names.join(",") } });
}

/** Replaces what has changed of an element's content, so that focus, open details and selected text stay where nothing has. */
export function replaceContent(element, markup) {
  const wanted = new DOMParser().parseFromString(`<body>${markup}</body>`, "text/html").body;
  localize(wanted);
  morph(element, wanted);
}

function morph(element, wanted) {
  const old = new Map([...element.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = element.firstChild;
  for (const next of [...wanted.childNodes]) {
    const kept = next.id && old.get(next.id);
    if (kept && kept !== place) {
      element.insertBefore(kept, place);
      place = kept;
    }
    if (place && same(place, next)) {
      if (place.nodeType === Node.ELEMENT_NODE) {
        attributes(place, next);
        morph(place, next);
      } else if (place.data !== next.data) place.data = next.data;
      place = place.nextSibling;
    } else element.insertBefore(document.importNode(next, true), place);
  }
  while (place) {
    const following = place.nextSibling;
    place.remove();
    place = following;
  }
}

function same(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

function attributes(element, wanted) {
  for (const { name } of [...element.attributes]) {
    // What a person has opened, and what this page's own JavaScript has noted, stays.
    if (!wanted.hasAttribute(name) && name !== "open" && !name.startsWith("data-own")) element.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
}

/**
 * Follows a stream of server-sent events while the tab is visible; a browser has few connections to one server.
 * `events`: what to call with the JSON of each, by its name. While there is no stream, `poll()` is called each second; it resolves to
 * whether the server answered: then nothing is lost, only slower. `opened()`: called when the stream is there, also again.
 */
export function stream(url, events, { poll = () => false, opened = () => {} } = {}) {
  const reader = `stream ${(readers += 1)}`;
  let source = null;
  let breaks = 0;
  let waits = 0;
  let timer = 0;
  const place = seat(() => {
    source?.close();
    source = null;
    timer = setTimeout(wait, AGAIN);
  });

  function open() {
    clearTimeout(timer);
    if (source || document.visibilityState !== "visible") return;
    if (!place.take()) {
      timer = setTimeout(wait, AGAIN);
      return;
    }
    source = new EventSource(typeof url === "function" ? url() : url);
    source.onopen = () => {
      breaks = 0;
      succeeded(reader);
      opened();
    };
    source.onerror = (event) => {
      if (event.data !== undefined) return failed(reader, reason(event.data)); // told by the server, whose ledger does not answer
      close();
      breaks += 1;
      if (breaks === 1) return open(); // it may just have lasted long enough
      failed(reader);
      timer = setTimeout(wait, AGAIN);
      return undefined;
    };
    for (const [name, call] of Object.entries(events)) {
      source.addEventListener(name, (event) => {
        const told = JSON.parse(event.data);
        succeeded(reader, true, told.ageSeconds ?? 0);
        call(told, event);
      });
    }
  }

  /** No stream can be had now: asks, and tries to open one at first each second, then each five. */
  async function wait() {
    waits += 1;
    if ((breaks < 5 || waits % 5 === 0) && place.take()) return open();
    timer = setTimeout(wait, AGAIN);
    if (await poll()) forget(reader);
    return undefined;
  }

  function close() {
    source?.close();
    source = null;
    place.leave();
  }

  function pause() {
    clearTimeout(timer);
    close();
    forget(reader);
  }

  document.addEventListener("visibilitychange", () => (document.visibilityState === "visible" ? open() : pause()));
  open();
  return { stop: pause };
}

function reason(text) {
  try {
    return JSON.parse(text).error ?? "";
  } catch {
    return "";
  }
}
