// The page of a run: its numbers follow the stream of events, its parts, charts and strip are asked for when something has changed.

import { duration, number, percent } from "./formats.js";
import { liveParts, stream } from "./live.js";
import { actions } from "./run_actions.js";
import { runCharts } from "./run_charts.js";
import { runStrip } from "./run_strip.js";

const QUICK = ["run_head", "run_actions", "run_phases", "run_outcomes"];
const OFTEN = 2000; // milliseconds between two looks at what changes with each document
const SELDOM = 10_000; // between two looks at everything, whatever the stream says

const page = document.querySelector(".run-page");
const run = page.dataset.run;
const ended = page.dataset.ended === "true";
const names = [...document.querySelectorAll("[data-part]")].map((part) => part.dataset.part).filter((name) => name !== "cluster");
const quick = liveParts(names.filter((name) => QUICK.includes(name)), { every: SELDOM });
const slow = liveParts(names.filter((name) => !QUICK.includes(name)), { every: SELDOM });
const charts = runCharts(run, { every: ended ? 6 * SELDOM : 5000 });
const strip = runStrip(run, { every: ended ? 6 * SELDOM : SELDOM });

const everything = () => Promise.all([quick, slow, charts, strip].map((each) => each.now()));
const progress = atMost(OFTEN, () => Promise.all([quick.now(), strip.now()]));
const news = atMost(OFTEN, everything);
const mine = (call) => (found) => found.migrationId === run && call(found);

stream("/migrate/stream", {
  snapshot: (found) => found.runs.filter((each) => each.migrationId === run).forEach(show),
  run: mine((found) => {
    show(found);
    progress();
  }),
  state: mine(everything),
  failures: mine(news),
  gone: mine(everything),
  reload: everything,
  beat: () => {},
}, { poll: () => quick.now() });

actions(everything);

/** Writes the newest numbers into the page: those elements that `data-live` names. */
function show(line) {
  const texts = {
    processedItems: number(line.processedItems), totalItems: number(line.totalItems), progress: percent(line.progress / 100),
    throughput: number(line.throughput), failures: number(line.failed + line.conflicts),
    etaSeconds: line.etaSeconds === null ? null : duration(line.etaSeconds),
  };
  for (const [name, text] of Object.entries(texts)) {
    const place = document.querySelector(`[data-live="${name}"]`);
    if (place && text !== null && place.textContent !== text) place.textContent = text;
  }
  const bar = document.querySelector(".run-page progress");
  if (bar) bar.value = line.progress;
}

/** Returns a function that calls another one at once, but not again within so many milliseconds: then at their end. */
function atMost(milliseconds, call) {
  let timer = 0;
  let last = -Infinity;
  return () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      call();
    }, Math.max(0, last + milliseconds - performance.now()));
  };
}
