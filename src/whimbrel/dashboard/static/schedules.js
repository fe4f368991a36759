// The schedules: kept up to date; run at once, enabled and disabled, made, changed and deleted; the scheduler is started and stopped.

import { act, send } from "./actions.js";
import { time } from "./formats.js";
import { liveParts } from "./live.js";

const parts = liveParts(["schedules", "ticks"], { every: 2000 });
const week = liveParts(["week"], { every: 60_000 });
const page = { now: () => Promise.all([parts.now(), week.now()]) };
const form = document.getElementById("schedule-form");
const address = (name) => `/migrate/scheduler/schedules/${encodeURIComponent(name)}`;
const FIELDS = ["migration", "cron", "zone", "enabled", "batchSize", "filters", "priority", "windows", "nice"];

/** What a schedule is, as PUT takes it. */
function plan(schedule) {
  return Object.fromEntries(FIELDS.map((name) => [name, schedule[name]]));
}

function saved({ schedule }) {
  const next = schedule.nextRun ? `next at ${time(schedule.nextRun)}` : "no tick of it comes";
  return `Schedule ${schedule.name} is ${schedule.enabled ? "enabled" : "disabled"}: ${next}.`;
}

const actions = {
  run: (button, name) => act(button, {
    path: `${address(name)}/run`, done: page.now,
    confirm: { title: `Run ${name} now?`, text: `A run of ${button.dataset.migration} starts at once, as its next tick would start it. Its ticks stay as they are.`, word: "Run it now" },
    said: (answer) => answer.migrationId ? `Run ${answer.migrationId}: ${answer.message}` : answer.message,
  }),
  async enable(button, name) {
    const enabled = button.dataset.to === "yes";
    const found = await send("GET", address(name)).catch(() => null);
    // Without an answer the PUT below says what is wrong: it lacks what a schedule must have.
    await act(button, { method: "PUT", path: address(name), body: found ? { ...plan(found.schedule), enabled } : {}, said: saved, done: page.now });
  },
  remove: (button, name) => act(button, {
    method: "DELETE", path: address(name), done: page.now,
    confirm: { title: `Delete the schedule ${name}?`, text: "The runs that it started stay, and go on.", word: "Delete it", typed: name, danger: true },
    said: ({ schedule }) => `Schedule ${schedule.name} is deleted.`,
  }),
  async edit(_, name) {
    const { schedule } = await send("GET", address(name));
    const { elements } = form;
    for (const field of ["name", "migration", "cron", "zone", "priority", "nice"]) elements[field].value = schedule[field];
    elements.filters.value = schedule.filters ? JSON.stringify(schedule.filters) : "";
    elements.windows.value = schedule.windows.join("\n");
    elements.batchSize.value = schedule.batchSize ?? "";
    elements.enabled.checked = schedule.enabled;
    document.getElementById("edit").scrollIntoView();
    elements.cron.focus();
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  for (const [name, action] of Object.entries(actions)) {
    if (button.dataset[name] && button.closest("[data-part]")) action(button, button.dataset[name]);
  }
  const { scheduler } = button.dataset;
  if (scheduler) {
    act(button, {
      path: `/migrate/scheduler/${scheduler}`, said: (answer) => answer.message, done: page.now,
      confirm: scheduler === "stop" ? { title: "Stop the scheduler?", text: "No tick starts a run in the whole cluster until somebody starts it again. Runs go on.", word: "Stop it", danger: true } : null,
    });
  }
});

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { elements } = form;
  const button = form.querySelector("button");
  const body = () => ({
    migration: elements.migration.value, cron: elements.cron.value, zone: elements.zone.value, enabled: elements.enabled.checked,
    batchSize: elements.batchSize.value ? Number(elements.batchSize.value) : null, filters: filters(elements.filters),
    priority: Number(elements.priority.value), nice: Number(elements.nice.value),
    windows: elements.windows.value.split("\n").map((line) => line.trim()).filter(Boolean),
  });
  act(button, { method: "PUT", path: address(elements.name.value), body, said: saved, done: page.now });
});

function filters(field) {
  if (!field.value.trim()) return null;
  try {
    return JSON.parse(field.value);
  } catch (error) {
    throw new Error(`The filter is no JSON: ${error.message}.`);
  }
}
