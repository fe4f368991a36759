// The list of runs: numbers follow the stream of all runs; what changes the list itself is rendered by the server.

import { act } from "./actions.js";
import { duration, number, percent, time } from "./formats.js";
import { liveParts, stream } from "./live.js";

const SEEN = "whimbrel.seen"; // what this browser has shown of failures, by run
const ROWS = 200; // runs that are remembered of it
const OFTEN = 700; // milliseconds between two times that the list is asked for
const SELDOM = 15_000; // milliseconds after which it is asked for in any case: sparklines, times

const parts = liveParts(["news", "list"], { every: SELDOM, changed: showNew });
let asked = 0;
let timer = 0;

/** Asks for the list again soon, however many events want it. */
function refresh() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    asked = Date.now();
    parts.now();
  }, Math.max(0, asked + OFTEN - Date.now()));
}

function update(line) {
  const row = document.querySelector(`[data-run="${CSS.escape(line.migrationId)}"]`);
  if (!row) return; // it is on another page of the list, or has just begun: then its state is told too
  if (row.dataset.status !== line.status || row.dataset.state !== (line.state ?? "")) {
    refresh();
    return;
  }
  const write = (name, text) => {
    const place = row.querySelector(`[data-field="${name}"]`);
    if (!place) return;
    if (place.textContent !== text) place.textContent = text;
    place.hidden = text === "" && name === "reason";
  };
  for (const name of ["processedItems", "totalItems", "throughput"]) write(name, number(line[name]));
  write("progress", percent(line.progress / 100));
  write("phase", line.phase);
  write("reason", line.reason ?? "");
  const eta = row.querySelector('[data-field="eta"]');
  if (line.etaSeconds !== null) write("eta", `About ${duration(line.etaSeconds)} left`);
  else if (eta?.textContent.startsWith("About")) write("eta", "Not known how long");
  const bar = row.querySelector('[data-field="bar"]');
  if (bar) bar.value = line.progress;
  const failed = line.failed + line.conflicts;
  const place = row.querySelector('[data-field="failures"]');
  if (place && Number(place.dataset.failures) !== failed) {
    place.dataset.failures = failed;
    place.textContent = number(failed);
    place.className = failed ? "some" : "none";
    write("failuresWord", failed === 1 ? "failure" : "failures");
    showNew();
  }
}

stream("/migrate/stream", {
  snapshot: ({ runs }) => runs.forEach(update),
  run: update,
  state: refresh,
  gone: refresh,
  reload: refresh,
  health: () => {},
  freeze: refresh,
  beat: () => {},
}, { opened: refresh, poll: () => parts.now() });

// Failures that are new since this browser has last shown the list.

const before = remembered();

function remembered() {
  try {
    const found = JSON.parse(localStorage.getItem(SEEN) ?? "{}");
    return found && typeof found === "object" ? found : {};
  } catch {
    return {};
  }
}

function showNew() {
  for (const row of document.querySelectorAll("[data-run]")) {
    const place = row.querySelector("[data-new]");
    const failed = Number(row.querySelector("[data-failures]")?.dataset.failures);
    const known = before.runs?.[row.dataset.run] ?? (before.at ? 0 : failed);
    const news = failed - known;
    if (!place) continue;
    place.hidden = !(news > 0);
    if (news > 0) {
      place.textContent = `+${number(news)} new`;
      place.title = before.at ? `since you last looked here: ${new Date(before.at).toLocaleString()}` : "";
    }
  }
}

addEventListener("pagehide", () => {
  const runs = { ...before.runs };
  for (const row of document.querySelectorAll("[data-run]")) {
    delete runs[row.dataset.run]; // so that the newest stand last
    runs[row.dataset.run] = Number(row.querySelector("[data-failures]")?.dataset.failures ?? 0);
  }
  const kept = Object.fromEntries(Object.entries(runs).slice(-ROWS));
  try {
    localStorage.setItem(SEEN, JSON.stringify({ at: Date.now(), runs: kept }));
  } catch {
    // nothing can be remembered here
  }
});

showNew();

// Freezes.

const form = document.getElementById("freeze-form");
const panel = document.getElementById("freeze");

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const until = form.elements.until.value;
  const body = { note: form.elements.note.value };
  if (until) body.until = new Date(until).toISOString();
  const answer = await act(form.querySelector('button[type="submit"]'), {
    path: "/freeze",
    body,
    said: ({ freeze }) => `Frozen by ${freeze.by}, until ${freeze.until ? time(freeze.until) : "somebody lifts it"}. Runs give their batches back within a chunk.`,
    done: refresh,
  });
  if (answer) panel.open = false;
});

document.getElementById("unfreeze")?.addEventListener("click", async (event) => {
  const answer = await act(event.currentTarget, {
    method: "DELETE",
    path: "/freeze",
    said: ({ lifted }) => (lifted.length ? `Lifted by ${lifted[0].liftedBy}. Runs go on by themselves.` : "Nothing was frozen."),
    done: refresh,
  });
  if (answer) panel.open = false;
});

// A form that is sent with empty fields would make long addresses.
document.querySelector("#filters form")?.addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData.entries()]) if (value === "") event.formData.delete(name);
});
