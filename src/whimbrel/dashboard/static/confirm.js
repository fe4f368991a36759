// The typed confirmation that starts a run: what is written must name the number of documents, the collection and the host that the plan has shown.

import { act, answerPlace, report } from "./actions.js";
import { followRun, sameText } from "./parts.js";

/** Starts what the form in `#confirm-form` says once its phrase is written. `fresh()`: whether the plan is still that of what the page asks for. */
export function confirmStarts(fresh = () => true) {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.id !== "confirm-form") return;
    event.preventDefault();
    const button = form.querySelector("button");
    const place = answerPlace(button);
    if (!fresh()) return report(place, "What is asked for has changed since it was tried. Try it again first: nothing was started.", "bad");
    const field = form.elements.phrase;
    if (!sameText(field.value, form.dataset.phrase)) {
      report(place, `This is not what was to be written: ${form.dataset.phrase}. Nothing was started.`, "bad");
      field.setAttribute("aria-invalid", "true");
      field.focus();
      return;
    }
    field.removeAttribute("aria-invalid");
    const answer = await act(button, { path: form.dataset.path, body: JSON.parse(form.dataset.start), said: (found) => found.message });
    if (answer?.migrationId) {
      form.closest(".confirm").hidden = true; // one start for one confirmation
      followRun(place, answer.migrationId, answer.message);
    }
  });
}
