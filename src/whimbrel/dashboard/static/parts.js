// Asks for parts of a page once, at an address of its own, and says what became of a run that was started here.

import { live, replaceContent } from "./live.js";

/** Gets blocks of the page at an address, rendered by the server, and puts them where they belong. Throws an Error with the server's sentence. */
export async function loadParts(address, names, signal = undefined) {
  const answer = await fetch(address, { headers: { Accept: "text/html", "X-Parts": names.join(",") }, cache: "no-store", signal });
  const found = await answer.json().catch(() => ({}));
  if (answer.status === 401) location.assign(`/dashboard/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  if (!answer.ok) throw new Error(found.error ?? `The server answered ${answer.status}.`);
  for (const [name, markup] of Object.entries(found)) {
    const element = document.querySelector(`[data-part="${name}"]`);
    if (element) replaceContent(element, markup);
  }
}

/** Says in an element what was started, by whom as the audit has it, and how far it is, until it has ended. */
export function followRun(place, id, message) {
  const link = document.createElement("a");
  link.href = `/dashboard/runs/${encodeURIComponent(id)}`;
  link.textContent = `run ${id}`;
  const state = document.createElement("span");
  place.classList.add("answer", "good");
  place.replaceChildren(message, " Look at ", link, ". ", state);
  const reader = live(`/migrate/status/${encodeURIComponent(id)}`, ({ migration: run }) => {
    const over = run.endTime !== null;
    state.textContent = `It is ${run.status.replaceAll("_", " ")}${over ? "" : `, ${run.progress} %`}. ${run.message ?? ""}`;
    state.dataset.status = run.status;
    if (over) reader.stop();
  });
  reader.now();
}

/** What a person has written, without what does not matter: blanks at its ends, several in a row, commas in the number. */
export function sameText(written, wanted) {
  const plain = (text) => text.trim().replace(/\s+/g, " ").replace(/^[\d,. ]*\d(?= )/, (digits) => digits.replaceAll(/[,. ]/g, ""));
  return plain(written) === plain(wanted);
}
