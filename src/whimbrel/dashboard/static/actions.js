// What people do: asks first where that is wanted, sends it to the REST API, and says beside the button what came of it.

// More than any answer takes: a rehearsal, which takes longest, ends after a minute.
const PATIENCE = 300_000; // milliseconds

/**
 * Sends a request to the REST API and returns its answer's JSON. Throws an Error with the server's sentence.
 * `body`: an object, or nothing. Without an answer it throws too: then nobody knows whether it was done.
 */
export async function send(method, path, body = undefined) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const content = body === undefined ? undefined : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: content, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Error("The server did not answer: it is not known whether this was done. Look before you try again.");
  }
  if (answer.status === 401) {
    location.assign(`/dashboard/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    throw new Error("Your session has ended. Log in again.");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ?? `The server answered ${answer.status}.`);
  return found;
}

/**
 * Does what a button says. `confirm`: { title, text, word, typed, danger }: asked first; `typed`: must be written by the person.
 * `said(answer)`: a sentence of what came of it. `done(answer)`: called after it, such as to ask for new data.
 * Returns the answer; null where the person did not confirm it, or it failed: that stands beside the button.
 */
export async function act(button, { method = "POST", path, body, confirm = null, said = () => "Done.", done = () => {} }) {
  if (button.getAttribute("aria-busy") === "true") return null;
  if (confirm && !(await ask(confirm))) return null;
  const place = answerPlace(button);
  button.setAttribute("aria-busy", "true");
  report(place, "Asked; no answer yet.", "");
  try {
    const answer = await send(method, path, typeof body === "function" ? body() : body);
    report(place, said(answer), "good");
    await done(answer);
    return answer;
  } catch (error) {
    report(place, error.message, "bad");
    return null;
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** The place of a button's answers: the element that `data-answer` names by its id, or one after the button. */
export function answerPlace(button) {
  const named = button.dataset.answer && document.getElementById(button.dataset.answer);
  if (named) return named;
  if (button.nextElementSibling?.classList.contains("answer")) return button.nextElementSibling;
  const place = document.createElement("span");
  place.className = "answer";
  place.setAttribute("role", "status");
  button.after(place);
  return place;
}

export function report(place, text, kind) {
  place.classList.add("answer");
  place.classList.remove("good", "bad");
  if (kind) place.classList.add(kind);
  place.textContent = text;
}

/** Asks in a dialog; resolves to whether the person has confirmed it. */
export function ask({ title, text, word = "Yes", typed = "", danger = false }) {
  const dialog = element("dialog");
  const form = element("form", { method: "dialog" });
  const confirmed = element("button", { value: "yes", className: danger ? "danger" : "primary", textContent: word });
  const heading = element("h2", { textContent: title, id: "ask-title" });
  dialog.setAttribute("aria-labelledby", heading.id);
  form.append(heading, ...[text].flat().map((each) => element("p", { textContent: each })));
  if (typed) {
    const field = element("input", { autocomplete: "off", spellcheck: false });
    const label = element("label", { className: "field", textContent: `Type ${typed} to confirm` });
    label.append(field);
    form.append(label);
    confirmed.disabled = true;
    field.addEventListener("input", () => { confirmed.disabled = field.value.trim() !== typed; });
  }
  const bar = element("div", { className: "toolbar" });
  bar.append(element("button", { value: "", textContent: "Leave it", type: "submit", formNoValidate: true }), confirmed);
  // Enter shall confirm, not leave: a form is sent by its first button.
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    if (!confirmed.disabled) dialog.close("yes");
  });
  form.append(bar);
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}
