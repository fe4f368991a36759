// Line charts in SVG: one time axis, shaded spans, numbered marks, a cursor for mouse and keyboard.
// Every chart stands beside a table with the same numbers, which the page has without JavaScript too.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 56;
const RIGHT = 12;
const TOP = 18;
const BOTTOM = 24;
const PLOT = 130; // pixels of a plot's height, where the chart does not say another

const HOURS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAYS = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hour12: false });

export function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text) made.textContent = text;
  return made;
}

/** Returns round numbers from 0 to at least `most`, at most `count` of them. */
export function ticks(most, count = 4) {
  if (!(most > 0)) return [0, 1];
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const found = [];
  for (let value = 0; value < most + step * 0.999; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];

/** Returns times in milliseconds for the axis, at round moments of the viewer's clock, and the milliseconds between two. */
export function timeTicks(from, to, count) {
  const rough = (to - from) / 1000 / Math.max(1, count);
  const step = (STEPS.find((candidate) => candidate >= rough) ?? STEPS.at(-1)) * 1000;
  const zone = new Date(from).getTimezoneOffset() * 60000;
  const found = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to; at += step) found.push(at);
  return { moments: found, step };
}

/**
 * Draws a chart into a figure that has an empty <svg> and an <output>.
 * `series`: {name, kind, points: [[ms, value|null]], format}; `spans`: {from, to, kind, label}; `marks`: {at, label}.
 */
export class LineChart {
  constructor(figure) {
    this.figure = figure;
    this.svg = figure.querySelector("svg");
    this.output = figure.querySelector("output");
    this.data = null;
    this.cursor = null;
    this.svg.setAttribute("tabindex", "0");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}: no numbers yet`); // until it is drawn
    new ResizeObserver(() => this.draw()).observe(figure);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.moveTo(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", () => this.moveTo(null));
  }

  update(data) {
    this.data = data;
    this.draw();
  }

  draw() {
    const width = Math.floor(this.figure.clientWidth);
    if (!this.data || width < 80) return;
    this.width = width;
    const { from, to, series, title, description } = this.data;
    this.x = (at) => LEFT + ((at - from) / Math.max(1, to - from)) * (width - LEFT - RIGHT);
    this.plot = this.data.height ?? PLOT;
    const height = TOP + this.plot + BOTTOM;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", String(height));
    const most = Math.max(this.data.least ?? 0, ...series.flatMap((line) => line.points.map(([, value]) => value ?? 0)));
    const levels = this.data.levels ?? ticks(most);
    const top = levels.at(-1);
    this.y = (value) => TOP + this.plot - (Math.min(value, top) / top) * this.plot;
    const name = this.figure.id;
    const parts = [
      element("title", { id: `${name}-title` }, title),
      element("desc", { id: `${name}-desc` }, description),
      ...this.spans(),
      ...levels.flatMap((level) => this.level(level)),
      ...this.times(),
      ...series.map((line) => this.line(line)),
      ...this.marks(),
    ];
    this.hair = element("line", { class: "chart-hair", y1: TOP, y2: TOP + this.plot, visibility: "hidden" });
    this.svg.setAttribute("aria-labelledby", `${name}-title ${name}-desc`);
    this.svg.replaceChildren(...parts, this.hair);
    if (this.cursor !== null) this.moveTo(this.cursor);
  }

  spans() {
    const { from, to } = this.data;
    return (this.data.spans ?? []).flatMap((span) => {
      const begin = this.x(Math.max(from, span.from));
      const end = this.x(Math.min(to, span.to));
      if (end < begin) return [];
      const box = element("rect", { class: `chart-span chart-span-${span.kind}`, x: begin, y: TOP, width: Math.max(2, end - begin), height: this.plot });
      box.append(element("title", {}, span.label));
      return [box];
    });
  }

  level(value) {
    const y = this.y(value);
    return [
      element("line", { class: "chart-grid", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }),
      element("text", { class: "chart-label", x: LEFT - 6, y: y + 4, "text-anchor": "end" }, this.data.format(value)),
    ];
  }

  times() {
    const { from, to } = this.data;
    const days = to - from > 20 * 3600000;
    const { moments, step } = timeTicks(from, to, (this.width - LEFT) / (days ? 130 : 90));
    const seconds = step < 60000;
    return moments.map((at) =>
      element("text", { class: "chart-label", x: this.x(at), y: TOP + this.plot + 16, "text-anchor": this.x(at) > this.width - 40 ? "end" : "middle" }, (days ? DAYS : seconds ? SECONDS : HOURS).format(at)),
    );
  }

  line(line) {
    const pieces = [];
    let open = false;
    for (const [at, value] of line.points) {
      if (value === null || value === undefined) {
        open = false;
        continue;
      }
      pieces.push(`${open ? "L" : "M"}${this.x(at).toFixed(1)} ${this.y(value).toFixed(1)}`);
      if (!open) pieces.push("h0"); // a point alone is seen by its round cap
      open = true;
    }
    return element("path", { class: `chart-line chart-line-${line.kind}`, d: pieces.join("") });
  }

  marks() {
    return (this.data.marks ?? []).map((mark, index) => {
      const x = this.x(mark.at);
      const group = element("g", { class: "chart-mark" });
      group.append(
        element("title", {}, mark.label),
        element("line", { x1: x, x2: x, y1: TOP, y2: TOP + this.plot }),
        element("circle", { cx: x, cy: TOP - 9, r: 8 }),
        element("text", { x, y: TOP - 5.5, "text-anchor": "middle" }, String(mark.number ?? index + 1)),
      );
      return group;
    });
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const { from, to } = this.data ?? {};
    if (!box.width || from === undefined) return;
    const share = (event.clientX - box.left - LEFT) / (this.width - LEFT - RIGHT);
    this.moveTo(from + Math.max(0, Math.min(1, share)) * (to - from));
  }

  key(event) {
    if (!this.data) return;
    const moments = this.data.series[0]?.points.map(([at]) => at) ?? [];
    if (!moments.length) return;
    const last = moments.length - 1;
    const now = this.cursor === null ? last : nearest(moments, this.cursor);
    const steps = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last, PageUp: now - 10, PageDown: now + 10 };
    if (event.key === "Escape") this.moveTo(null);
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.moveTo(moments[Math.max(0, Math.min(last, steps[event.key]))]);
  }

  /** Shows the values at a moment, or at none. */
  moveTo(at) {
    if (!this.data || !this.hair) return;
    this.cursor = at;
    this.hair.setAttribute("visibility", at === null ? "hidden" : "visible");
    if (at === null) {
      this.output.textContent = "";
      return;
    }
    this.hair.setAttribute("x1", this.x(at));
    this.hair.setAttribute("x2", this.x(at));
    const parts = this.data.series.flatMap((line) => {
      const found = line.points[nearest(line.points.map(([moment]) => moment), at)];
      return found && found[1] !== null && found[1] !== undefined ? [`${line.name} ${(line.format ?? this.data.format)(found[1])}`] : [];
    });
    const inside = (this.data.spans ?? []).filter((span) => span.from <= at && at <= span.to).map((span) => span.label);
    this.output.textContent = [EXACT.format(at), ...(parts.length ? parts : ["nothing was measured"]), ...inside].join(" · ");
  }
}

function nearest(moments, at) {
  let low = 0;
  let high = moments.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (moments[middle] <= at) low = middle;
    else high = middle;
  }
  return high >= 0 && Math.abs(moments[high] - at) < Math.abs(moments[low] - at) ? high : low;
}
