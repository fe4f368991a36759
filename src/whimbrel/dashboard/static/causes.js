// Causes of failures: kept up to date, retried, accepted.

import { liveParts } from "./live.js";
import { actions } from "./run_actions.js";

const parts = ["causes_head", "causes_actions", "causes_list", "cause_figures", "cause_actions"];
const shown = parts.filter((name) => document.querySelector(`[data-part="${name}"]`));
const page = liveParts(shown, { every: 2000 });
actions(() => page.now());
