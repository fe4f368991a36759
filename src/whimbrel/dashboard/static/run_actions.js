// The actions on a run: a button says by data attributes what to send. Afterwards the page says what was asked, by whom, seen by how many slots, and what came of it.

import { act, report, send } from "./actions.js";
import { number, time } from "./formats.js";

const NAMES = {
  approve: "Approve the stage", pause: "Pause", resume: "Resume", retry: "Retry", verify: "Verify", cancel: "Cancel for good",
  accept: "Accept", withdraw: "Accept no longer", settings: "Settings",
};
const WATCHED = { pause: ["pausing"], cancel: ["cancelling"], resume: ["queued", "pausing"], retry: ["queued"] };
const LOOKS = 120; // at how a run takes an action, a second apart

/** Makes the buttons with `data-act` in the page work. `done()`: called after each, to ask for new data. */
export function actions(done) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (button && !button.form) begin(button, undefined, done);
  });
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-act]");
    if (!form) return;
    event.preventDefault();
    const body = BODIES[form.dataset.act](form);
    const button = event.submitter ?? form.querySelector("button");
    if (body === null) return report(document.getElementById(button.dataset.answer), "Nothing was changed in the form.", "");
    begin(button, body, done, form.dataset);
  });
}

const BODIES = {
  accept: (form) => ({ groups: [form.dataset.group], note: form.elements.note.value }),
  settings: changedSettings,
};

/** Returns only what somebody has changed; null where that is nothing. */
function changedSettings(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.value === field.defaultValue) continue;
    const text = field.value.trim();
    if (field.dataset.kind === "lines") body[field.name] = text.split("\n").map((line) => line.trim()).filter(Boolean);
    else body[field.name] = text === "" ? null : Number(text);
  }
  return Object.keys(body).length ? body : null;
}

async function begin(button, body, done, data = button.dataset) {
  const name = data.act;
  const answer = await act(button, {
    method: data.method,
    path: data.path,
    body: body ?? (data.body ? JSON.parse(data.body) : data.method === "POST" ? {} : undefined),
    confirm: data.confirm ? { title: `${NAMES[name]}?`, text: data.confirm, word: NAMES[name], typed: data.type ?? "", danger: name === "cancel" } : null,
    said: (found) => said(name, found),
    done,
  });
  if (!answer) return;
  newest += 1;
  const place = document.getElementById(button.dataset.answer);
  if (name === "settings") for (const field of button.form.elements) field.defaultValue = field.value;
  if (name in WATCHED) await watch(name, data.run, place, done);
  else if (name === "settings") await seen(data.run, place);
}

function asked(name) {
  const who = document.querySelector(".who b")?.textContent;
  return `${NAMES[name]}: asked${who ? ` by ${who}` : ""} at ${time(Date.now())}.`;
}

function said(name, found) {
  if (name === "verify") return `${asked(name)} ${found.message} Verification ${found.migrationId} is a run itself.`;
  if (name === "retry") return `${asked(name)} ${number(found.reopened)} failures are open again; the run is ${words(found.migration.status)}.`;
  if (name === "accept") return `${asked(name)} Its failures do not count for the failure budget any more.`;
  if (name === "withdraw") return `${asked(name)} Its failures count for the failure budget again.`;
  if (name === "settings") return `${asked(name)} Stored.`;
  return `${asked(name)} The run is ${words(found.migration.status)}.`;
}

const words = (status) => status.replaceAll("_", " ");
let newest = 0; // the action that the page tells of: an older one is told no further
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Tells how a run takes an action, until it has. */
async function watch(name, run, place, done) {
  const [first, mine] = [place.textContent, newest];
  let told = "";
  for (let look = 0; look < LOOKS && mine === newest; look += 1) {
    const found = await send("GET", `/migrate/status/${encodeURIComponent(run)}`).catch(() => null);
    if (found) {
      const { status, message } = found.migration;
      const busy = WATCHED[name].includes(status);
      if (busy) told = stopping(await slotsOf(run)) || told;
      report(place, [first.replace(/ The run is [a-z ]+\.$/, ""), told, `It is ${words(status)} now.`, busy ? message : ""].filter(Boolean).join(" "), busy ? "" : "good");
      if (!busy) break;
    }
    await wait(1000);
  }
  await done();
}

async function seen(run, place) {
  const [first, mine] = [place.textContent, newest];
  for (let look = 0; look < LOOKS && mine === newest; look += 1) {
    const slots = await slotsOf(run);
    if (slots) {
      const { seen: know, of } = slots.settings;
      report(place, `${first} ${of ? `Seen by ${number(know)} of ${number(of)} slots that work on it.` : "No slot works on it now: each reads them with its next batch."}`, "good");
      if (know >= of) return;
    }
    await wait(1000);
  }
}

/** Returns who works on a run, and what they know; null where that cannot be asked now. */
const slotsOf = (run) => send("GET", `/migrate/slots/${encodeURIComponent(run)}`).catch(() => null);

/** Says how many slots know that they shall stop. */
function stopping(slots) {
  if (!slots?.stop.asked) return "";
  const { seen: told, left } = slots.stop;
  return left ? `Seen by ${number(told)} of ${number(left)} slots that have a batch in hand; each stops after its chunk.` : "No slot has a batch in hand any more.";
}
