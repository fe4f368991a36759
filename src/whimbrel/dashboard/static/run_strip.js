// The strip of a run's key space on its page: which leg, how fine, and what a cell holds.

import { number } from "./formats.js";
import { live } from "./live.js";
import { STATES, Strip } from "./strip.js";

/** Shows the strip of a run, and keeps it up to date. Returns what `live` returns. */
export function runStrip(run, { every }) {
  const root = document.getElementById("strip");
  const words = document.getElementById("strip-said");
  const leg = document.getElementById("strip-leg");
  const fine = document.getElementById("strip-cells");
  const asked = new URLSearchParams(location.search);
  if (asked.get("cells")) fine.value = asked.get("cells");
  if (fine.selectedIndex < 0) fine.selectedIndex = 0;
  const chosen = asked.get("leg") ?? "";
  let legs = "";
  let open = null; // the cell that is described, and its first batch

  const address = (cell = null) => {
    const query = new URLSearchParams({ cells: fine.value });
    const wanted = leg.options.length ? leg.value : chosen;
    if (/^\d{1,4}$/.test(wanted)) query.set("leg", wanted);
    if (cell !== null) query.set("cell", String(cell));
    return `/migrate/keyspace/${encodeURIComponent(run)}?${query}`;
  };

  async function look(cell) {
    const answer = await fetch(address(cell), { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer?.ok || strip.cursor !== cell) return;
    const { cell: found, count } = await answer.json();
    open = found.firstBatch;
    words.textContent = told(found, count);
  }

  const strip = new Strip(root, {
    moved: () => { open = null; },
    look,
    async enter(cell) {
      if (open === null) await look(cell);
      if (open) location.assign(`/dashboard/runs/${encodeURIComponent(run)}/batches/${open.slice(open.lastIndexOf(".") + 1)}`);
    },
  });
  const reading = live(() => address(), (found) => {
    if (legs !== JSON.stringify(found.legs)) {
      legs = JSON.stringify(found.legs);
      const begun = found.legs.filter((each) => each.begun);
      leg.replaceChildren(new Option("the latest look at everything", ""), ...begun.map((each) => new Option(`${each.leg + 1}: ${each.phase}`, String(each.leg))));
      leg.value = [...leg.options].some((option) => option.value === chosen) ? chosen : "";
      leg.closest("label").hidden = begun.length < 2;
    }
    strip.update(found.cells);
    document.getElementById("strip-empty").hidden = found.count > 0;
    root.hidden = found.count === 0;
    states(found.batches);
    const cells = found.count === 1 ? "1 cell" : `${number(found.count)} cells`;
    document.getElementById("strip-leg-said").textContent = `Phase ${found.phase}, ${cells}.`;
  }, { every });

  for (const [field, name] of [[leg, "leg"], [fine, "cells"]]) {
    field.addEventListener("change", () => {
      const place = new URL(location.href);
      if (field.value && !(name === "cells" && field.selectedIndex === 0)) place.searchParams.set(name, field.value);
      else place.searchParams.delete(name);
      history.replaceState(null, "", place);
      strip.cursor = -1;
      words.textContent = "";
      reading.now();
    });
  }
  reading.now();
  return reading;
}

function told(found, count) {
  const cell = `Cell ${number(found.cell + 1)} of ${number(count)}: ${STATES[found.state]}.`;
  if (found.firstBatch === null) return `${cell} Its batches are not planned yet; their number is an estimate.`;
  const [first, last] = [found.firstBatch, found.lastBatch].map((token) => number(Number(token.slice(token.lastIndexOf(".") + 1))));
  const batches = found.parts > 1 ? `Part ${number(found.part + 1)} of ${number(found.parts)} of batch ${first}` : first === last ? `Batch ${first}` : `Batches ${first} to ${last}`;
  const documents = found.documents === null ? "" : `, ${number(found.documents)} documents`;
  const after = found.first !== null ? `from ${key(found.first)}` : found.after === null ? "from the beginning" : `after ${key(found.after)}`;
  const keys = found.through === null ? "" : `, keys ${after} to ${key(found.through)}`;
  const failing = !found.withFailures || found.batches === 1 ? "" : ` ${number(found.withFailures)} of them with failures.`;
  return `${cell} ${batches}${documents}${keys}.${failing}`;
}

function key(value) {
  const text = value && typeof value === "object" && typeof value.$oid === "string" ? value.$oid : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function states(batches) {
  for (const [name, value] of Object.entries(batches)) {
    const place = document.querySelector(`[data-batches="${name}"]`);
    const text = number(value);
    if (place && place.textContent !== text) place.textContent = text;
  }
}
