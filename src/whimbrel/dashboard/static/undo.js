// Rollback and cleanup: looks at the documents as soon as the page is there, and starts what is confirmed.

import { confirmStarts } from "./confirm.js";
import { loadParts } from "./parts.js";

confirmStarts();

const waiting = document.querySelector("[data-wanted]");
if (waiting) {
  loadParts(`${location.pathname}?plan=1`, ["plan"]).catch((error) => {
    waiting.className = "error";
    waiting.textContent = error.message;
  });
}
