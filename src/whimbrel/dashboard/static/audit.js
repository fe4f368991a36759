// The audit: its first page is kept up to date; empty filters stay out of the address.

import { liveParts } from "./live.js";

const first = document.querySelector("[data-first]") !== null;
if (first) liveParts(["entries"], { every: 2000 });

document.getElementById("audit-form").addEventListener("submit", (event) => {
  for (const field of event.target.elements) field.disabled ||= field.name !== "" && field.value === "";
});
addEventListener("pageshow", () => {
  for (const field of document.getElementById("audit-form").elements) field.disabled = false;
});
