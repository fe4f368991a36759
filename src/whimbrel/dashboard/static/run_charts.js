// The course of a run as three charts over one time axis: rate, chunk time, share of its speed.

import { LineChart } from "./charts.js";
import { duration, number, percent, time } from "./formats.js";
import { live } from "./live.js";

const KINDS = { waiting: "waiting", slowed: "slowed", unattended: "unattended" }; // others are pauses
const FEW = 40; // stretches that are drawn as such; of more, their middles are joined
const REQUEST = /^(GET|POST|PUT|PATCH|DELETE) /; // the audit has what came of it too
const MARKED = 20; // marks that have a place in the charts, the newest; more would cover the lines

/** Shows the charts of a run, and keeps them up to date. Returns what `live` returns. */
export function runCharts(run, { every }) {
  const charts = Object.fromEntries(["rate", "chunks", "share"].map((name) => [name, new LineChart(document.getElementById(`chart-${name}`))]));
  const range = document.getElementById("chart-range");
  range.value = new URLSearchParams(location.search).get("range") ?? "";
  if (range.selectedIndex < 0) range.value = "";
  const path = `/migrate/series/${encodeURIComponent(run)}`;
  let end = null; // of the run's life, where it is over

  const address = () => {
    const seconds = Number(range.value);
    const last = end ?? Date.now();
    return seconds ? `${path}?from=${new Date(last - seconds * 1000).toISOString()}` : path;
  };
  const reading = live(address, (found) => {
    if (!range.value && every > 5000) end = Date.parse(found.to);
    show(charts, found);
  }, { every });
  range.addEventListener("change", () => {
    const asked = new URL(location.href);
    if (range.value) asked.searchParams.set("range", range.value);
    else asked.searchParams.delete("range");
    history.replaceState(null, "", asked);
    reading.now();
  });
  reading.now();
  return reading;
}

function show(charts, found) {
  const frame = {
    from: Date.parse(found.from),
    to: Math.max(Date.parse(found.to), Date.parse(found.from) + 1000),
    spans: found.holdups.map(span),
    marks: found.marks.filter((mark) => !REQUEST.test(mark.what)).slice(-MARKED).map((mark, index) => ({ at: Date.parse(mark.at), number: index + 1, label: told(mark) })),
  };
  const width = found.seconds * 1000;
  const documents = found.points.reduce((sum, point) => sum + point.documents, 0);
  charts.rate.update({
    ...frame,
    title: "Documents a second",
    description: `${number(documents)} documents from ${time(found.from)} to ${time(found.to)}; at most ${number(Math.max(0, ...found.points.map((point) => point.rate)))} a second. The table below has the numbers.`,
    series: [{ name: "documents/s", kind: "rate", points: line(found.points, "rate", width, found.points.length <= FEW) }],
    format: number,
    least: 1,
  });
  charts.chunks.update({
    ...frame,
    title: "Median time of a chunk",
    description: "How long half of the chunks took at most. The table below has the numbers.",
    series: [{ name: "chunk", kind: "chunks", points: line(settledLater(found.points), "chunkSeconds", width, found.points.length <= FEW) }],
    format: (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : duration(seconds)),
    least: 0.05,
  });
  charts.share.update({
    ...frame,
    title: "Share of its speed",
    description: "What the run was allowed: less than all while the database is not well, outside its windows, or by nice.",
    series: [{ name: "share", kind: "share", points: line(found.points, "share", width, true) }],
    levels: [0, 0.5, 1],
    height: 60,
    format: (share) => `${Math.round(share * 100)} %`,
  });
  marks(frame.marks, found);
}

/** Returns the points with the chunk time of the next one where none was told: the time of chunks is told when their batch is settled. */
function settledLater(points) {
  const filled = [];
  let next = null;
  for (const point of [...points].reverse()) {
    next = point.chunkSeconds ?? (point.documents ? next : null);
    filled.push({ ...point, chunkSeconds: next });
  }
  return filled.reverse();
}

/** Returns the points of a line, with a gap where the run did not work. `steps`: it stays equal through each stretch. */
function line(points, name, width, steps = false) {
  const found = [];
  let before = null;
  for (const point of points) {
    const from = Date.parse(point.at);
    const until = Date.parse(point.until);
    if (before !== null && from - before > Math.max(1500, width / 2)) found.push([(before + from) / 2, null]);
    if (steps) found.push([from, point[name]], [until, point[name]]);
    else found.push([(from + until) / 2, point[name]]);
    before = until;
  }
  return found;
}

function span(holdup) {
  const lasted = `${holdup.state}, ${duration(holdup.seconds)}${holdup.times > 1 ? ` in ${number(holdup.times)} times` : ""}`;
  const share = holdup.state === "slowed" ? ` to ${percent(holdup.share)}` : "";
  return { from: Date.parse(holdup.from), to: Date.parse(holdup.to), kind: KINDS[holdup.state] ?? "paused", label: `${lasted}${share}${holdup.said ? `: ${holdup.said}` : ""}` };
}

const told = (mark) => `${mark.who}: ${mark.what}${mark.why ? `: ${mark.why}` : ""}`;

/** Lists what the numbers in the charts mean. */
function marks(shown, found) {
  const place = document.getElementById("chart-marks");
  const items = shown.map((mark) => {
    const item = document.createElement("li");
    item.value = mark.number;
    item.textContent = `${time(mark.at)} ${mark.label}`;
    return item;
  });
  place.replaceChildren(...items);
  const more = found.marks.filter((mark) => !REQUEST.test(mark.what)).length - shown.length;
  document.getElementById("chart-more").textContent = more > 0 || found.olderLeftOut ? `${more > 0 ? `${number(more)} earlier ones are not marked` : "Earlier ones are not marked"}: the audit has them.` : "";
}
