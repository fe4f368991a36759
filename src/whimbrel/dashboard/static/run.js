// The page of a run: its parts, charts and strip are kept up to date, and its buttons do what they say.

import { liveParts } from "./live.js";
import { actions } from "./run_actions.js";
import { runCharts } from "./run_charts.js";
import { runStrip } from "./run_strip.js";

const page = document.querySelector(".run-page");
const run = page.dataset.run;
const ended = page.dataset.ended === "true";
const names = [...document.querySelectorAll("[data-part]")].map((part) => part.dataset.part);
const quick = ["run_head", "run_actions", "run_outcomes", "run_phases"];
const slow = names.filter((name) => !quick.includes(name));

// A run that has ended may go on again, or be rolled back: its page is looked at less often, but is.
const parts = [liveParts(quick.filter((name) => names.includes(name)), { every: ended ? 3000 : 1000 }), liveParts(slow, { every: ended ? 10_000 : 3000 })];
const charts = runCharts(run, { every: ended ? 30_000 : 2500 });
const strip = runStrip(run, { every: ended ? 30_000 : 1000 });

actions(async () => {
  await Promise.all([...parts, charts, strip].map((each) => each.now()));
});
