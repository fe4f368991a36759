// The verify report: prints itself, starts another verification.

import { liveParts } from "./live.js";
import { actions } from "./run_actions.js";

/** Which report is shown; nothing where there is none yet. */
const shown = () => document.querySelector(".verdict a")?.textContent ?? "";
const first = shown();

// A verification that has just ended has a report of its own: the rest of the page is its, too.
const page = liveParts(["report_verdict"], {
  every: 2000,
  changed: () => {
    if (shown() && shown() !== first) location.reload();
  },
});

actions(() => page.now());
document.getElementById("print")?.addEventListener("click", () => window.print());
