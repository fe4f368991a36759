// The verify report: prints itself, starts another verification.

import { liveParts } from "./live.js";
import { actions } from "./run_actions.js";

const page = liveParts(["report_verdict"], { every: 2000, changed: (names) => reload(names) });
let first = true;

// A verification that has just ended has a report: the rest of the page is new too.
function reload(names) {
  if (!names.includes("report_verdict")) return;
  if (!first && document.querySelector(".verdict") && !document.getElementById("proofs")) location.reload();
  first = false;
}

actions(() => page.now());
document.getElementById("print")?.addEventListener("click", () => window.print());
