// The key space of a run as cells in a canvas, in the order of its keys: only cells that have changed are drawn.
// A layer above it is a slider: arrow keys move a cursor, and what the cell under it holds is said in words.

import { number } from "./formats.js";

export const STATES = {
  s: "settled", r: "settled; what failed was tried again later", f: "settled, with unresolved failures", w: "being worked on", v: "being worked on, with failures",
  p: "planned, not begun", x: "cancelled", n: "not planned yet",
};
const LARGEST = 16; // pixels of a cell's side
const SMALLEST = 2;
const HIGHEST = 170; // pixels of the whole, as far as cells are not at their smallest
const GAP = 5; // sides from here on have a gap between cells, and failures a sign beside the colour

/** Returns the letters of run lengths: `s3w1` is `sssw`. */
export function unfolded(text) {
  let letters = "";
  for (const [, letter, times] of text.matchAll(/([a-z])(\d+)/g)) letters += letter.repeat(Number(times));
  return letters;
}

export class Strip {
  /** `root` holds a canvas and a `.strip-layer`. `moved()`: the cursor is elsewhere; `look(cell)`: it rests on a cell; `enter(cell)`: open it. */
  constructor(root, { moved, look, enter }) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.layer = root.querySelector(".strip-layer");
    Object.assign(this, { moved, look, enter });
    this.mark = document.createElement("div");
    this.mark.className = "strip-cursor";
    this.mark.hidden = true;
    this.layer.append(this.mark);
    this.letters = "";
    this.drawn = "";
    this.cursor = -1;
    this.timer = 0;
    new ResizeObserver(() => this.draw(true)).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw(true));
    this.layer.addEventListener("keydown", (event) => this.key(event));
    this.layer.addEventListener("focus", () => this.move(Math.max(0, this.cursor)));
    this.layer.addEventListener("pointermove", (event) => this.move(this.at(event), 80));
    this.layer.addEventListener("click", (event) => {
      this.move(this.at(event));
      this.enter(this.cursor);
    });
  }

  /** Shows cells, as run lengths. */
  update(text) {
    this.letters = unfolded(text);
    const most = Math.max(0, this.letters.length - 1);
    this.layer.setAttribute("aria-valuemax", String(most));
    if (this.cursor > most) this.cursor = -1;
    this.draw(false);
    this.tell();
  }

  /** Draws what has changed, or everything. */
  draw(everything) {
    const width = this.root.clientWidth;
    if (!width || !this.letters) return;
    const count = this.letters.length;
    const side = sideOf(count, width);
    const columns = Math.max(1, Math.floor(width / side));
    const rows = Math.ceil(count / columns);
    const ratio = window.devicePixelRatio || 1;
    const same = this.side === side && this.columns === columns && this.rows === rows && this.ratio === ratio;
    if (everything || !same) {
      Object.assign(this, { side, columns, rows, ratio });
      this.canvas.width = Math.round(columns * side * ratio);
      this.canvas.height = Math.round(rows * side * ratio);
      this.canvas.style.width = `${columns * side}px`;
      this.canvas.style.height = `${rows * side}px`;
      this.layer.style.height = `${rows * side}px`;
      this.colours = coloursOf(this.root);
      this.drawn = "";
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    let changed = 0;
    for (let cell = 0; cell < Math.max(count, this.drawn.length); cell += 1) {
      if (this.drawn[cell] === this.letters[cell]) continue;
      this.cell(context, cell);
      changed += 1;
    }
    this.drawn = this.letters;
    this.canvas.dataset.changed = String(changed);
    this.outline();
  }

  cell(context, cell) {
    const { side, columns } = this;
    const letter = this.letters[cell];
    const x = (cell % columns) * side;
    const y = Math.floor(cell / columns) * side;
    const size = side >= GAP ? side - 1 : side;
    context.clearRect(x, y, side, side);
    if (!letter) return; // there are fewer cells than before
    context.fillStyle = this.colours[letter] ?? this.colours.n;
    context.fillRect(x, y, size, size);
    if (side < GAP || !"fvwx".includes(letter)) return;
    context.fillStyle = this.colours.sign;
    if (letter === "w" || letter === "v") context.fillRect(x, y + size - 2, size, 2); // work: a line below
    if (letter === "f" || letter === "v") context.fillRect(x + size / 2 - 1, y + 1, 2, size - 3); // failures: a stroke
    if (letter === "x") context.fillRect(x + 1, y + size / 2 - 0.5, size - 2, 1); // cancelled: a line through
  }

  outline() {
    const { side, columns, cursor } = this;
    this.mark.hidden = cursor < 0 || !side;
    if (this.mark.hidden) return;
    this.mark.style.left = `${(cursor % columns) * side - 3}px`;
    this.mark.style.top = `${Math.floor(cursor / columns) * side - 3}px`;
    this.mark.style.width = this.mark.style.height = `${side + (side >= GAP ? 5 : 6)}px`;
  }

  at(event) {
    const box = this.layer.getBoundingClientRect();
    const column = Math.min(this.columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / this.side)));
    const row = Math.max(0, Math.floor((event.clientY - box.top) / this.side));
    return Math.min(this.letters.length - 1, row * this.columns + column);
  }

  key(event) {
    if (!this.letters) return;
    const now = Math.max(0, this.cursor);
    const last = this.letters.length - 1;
    const page = this.columns * 10;
    const to = {
      ArrowLeft: now - 1, ArrowRight: now + 1, ArrowUp: now - this.columns, ArrowDown: now + this.columns, Home: 0, End: last,
      PageUp: now - page, PageDown: now + page, f: this.next(now, "fv"), w: this.next(now, "wv"),
    };
    if (event.key === "Enter") {
      event.preventDefault();
      this.enter(now);
    }
    if (!(event.key in to) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.move(Math.max(0, Math.min(last, to[event.key])));
  }

  /** Returns the next cell behind this one with one of these letters, from the beginning again; this one where there is none. */
  next(cell, letters) {
    for (let step = 1; step <= this.letters.length; step += 1) {
      const place = (cell + step) % this.letters.length;
      if (letters.includes(this.letters[place])) return place;
    }
    return cell;
  }

  /** Moves the cursor; what the cell holds is looked up once it rests there. */
  move(cell, pause = 120) {
    if (!this.letters || cell === this.cursor || cell < 0) return;
    this.cursor = cell;
    this.outline();
    this.tell();
    this.moved();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(cell), pause);
  }

  tell() {
    if (!this.letters) return;
    const now = Math.max(0, this.cursor);
    this.layer.setAttribute("aria-valuenow", String(now));
    this.layer.setAttribute("aria-valuetext", `cell ${number(now + 1)} of ${number(this.letters.length)}: ${STATES[this.letters[now]]}`);
  }
}

function sideOf(count, width) {
  for (let side = LARGEST; side > SMALLEST; side -= 1) {
    if (Math.ceil(count / Math.max(1, Math.floor(width / side))) * side <= HIGHEST) return side;
  }
  return SMALLEST;
}

/** Returns the colours of the page's style, in light or dark. */
function coloursOf(root) {
  const style = getComputedStyle(root);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    s: named("strip-settled"), r: named("strip-settled"), f: named("strip-failing"), w: named("strip-working"), v: named("strip-failing"), p: named("strip-pending"),
    x: named("strip-cancelled"), n: named("strip-unplanned"), sign: named("strip-sign"),
  };
}
