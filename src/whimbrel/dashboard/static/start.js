// Starting a run: tries what the form says on a sample, and starts it once that was confirmed.

import { confirmStarts } from "./confirm.js";
import { loadParts } from "./parts.js";

const form = document.getElementById("start-form");
const part = document.getElementById("plan");
let tried = new URLSearchParams(location.search).has("plan") ? written() : "";
let going = null;

function written() {
  const filled = [...new FormData(form)].filter(([, value]) => value !== "");
  return new URLSearchParams(filled).toString();
}

confirmStarts(() => written() === tried);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button[name=plan]");
  going?.abort();
  going = new AbortController();
  const asked = written();
  history.replaceState(null, "", `?${asked}`);
  document.getElementById("started").textContent = "";
  button.setAttribute("aria-busy", "true");
  const waits = document.createElement("p");
  waits.className = "loading";
  waits.textContent = "It is tried on a sample, which takes up to 20 seconds. Nothing is written.";
  part.replaceChildren(waits);
  try {
    await loadParts(`?${asked}&plan=1`, ["plan"], going.signal);
    tried = asked;
    part.focus();
  } catch (error) {
    if (error.name === "AbortError") return;
    waits.className = "error";
    waits.textContent = error.message;
  } finally {
    button.removeAttribute("aria-busy");
  }
});

// What is shown is the plan of what was asked for then.
form.addEventListener("input", () => part.classList.toggle("outdated", tried !== "" && written() !== tried));
