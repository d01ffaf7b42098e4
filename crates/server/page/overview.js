// All heads of a stack at once: a sheet of thumbnails, painted when something changes, copied on every frame.
import { el, everyFrame, say } from "./dom.js";
import { ink, onTheme, ramp } from "./colour.js";

/** A grid of L × H small pictures in one canvas. `pick(layer, head)` is called for the chosen one. */
export class Overview {
  constructor(parent, pick) {
    this.pick = pick;
    this.canvas = el("canvas", {
      class: "overview", tabindex: "0", role: "application", "aria-roledescription": "grid of heads",
      "aria-label": "All heads: arrow keys choose one, Enter goes to its large picture",
    });
    this.read = el("p", { class: "readout" }, " ");
    parent.append(this.canvas, this.read);
    this.sheet = document.createElement("canvas");
    this.thumbs = new Map();
    this.size = { layers: 1, heads: 1 };
    this.chosen = [0, 0];
    this.hover = null;
    this.stale = true;
    this.frame = everyFrame(() => this.blit());
    this.listen();
    onTheme(this.canvas, () => this.restale());
    new ResizeObserver(() => this.restale()).observe(parent);
  }

  /** Another stack, or another text. */
  reset(layers, heads) {
    this.size = { layers, heads };
    this.thumbs.clear();
    this.chosen = [Math.min(this.chosen[0], layers - 1), Math.min(this.chosen[1], heads - 1)];
    this.restale();
  }

  /** The thumbnails of a layer have come. */
  set(layer, thumbs) {
    this.thumbs.set(layer, thumbs);
    this.restale();
  }

  choose(layer, head) {
    this.chosen = [layer, head];
    this.frame();
  }

  restale() {
    this.stale = true;
    this.frame();
  }

  listen() {
    const at = (e) => {
      const { cell, left, top } = this.place;
      const [x, y] = [Math.floor((e.offsetX - left) / cell), Math.floor((e.offsetY - top) / cell)];
      const inside = x >= 0 && y >= 0 && x < this.size.heads && y < this.size.layers;
      return inside ? [y, x] : null;
    };
    this.canvas.addEventListener("pointermove", (e) => {
      const now = at(e);
      if (String(now) === String(this.hover)) return;
      this.hover = now;
      this.read.textContent = now ? `layer ${now[0]}, head ${now[1]}` : " ";
      this.frame();
    });
    this.canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.read.textContent = " ";
      this.frame();
    });
    this.canvas.addEventListener("click", (e) => {
      const now = at(e);
      if (now) this.go(...now);
    });
    this.canvas.addEventListener("keydown", (e) => this.key(e));
  }

  key(e) {
    const [l, h] = this.chosen;
    const { layers, heads } = this.size;
    const to = {
      ArrowUp: [l - 1, h], ArrowDown: [l + 1, h], ArrowLeft: [l, h - 1], ArrowRight: [l, h + 1],
      Home: [l, 0], End: [l, heads - 1], PageUp: [0, h], PageDown: [layers - 1, h],
    }[e.key];
    if (!to) return;
    e.preventDefault();
    if (to[0] >= 0 && to[1] >= 0 && to[0] < layers && to[1] < heads) this.go(...to);
  }

  go(layer, head) {
    this.choose(layer, head);
    say(`layer ${layer}, head ${head}`);
    this.pick(layer, head);
  }

  /** Lays the sheet out and paints it. */
  paint() {
    const ratio = window.devicePixelRatio || 1;
    const { layers, heads } = this.size;
    const [left, top] = [26, 18];
    const wide = this.canvas.parentElement.clientWidth;
    const cell = Math.max(8, Math.min(72, Math.floor((wide - left) / heads)));
    this.place = { cell, left, top };
    const [w, h] = [left + cell * heads, top + cell * layers];
    for (const canvas of [this.canvas, this.sheet]) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    this.canvas.style.width = `${w}px`;
    this.canvas.style.height = `${h}px`;
    const c = this.sheet.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.font = "11px system-ui, sans-serif";
    c.fillStyle = ink("quiet");
    c.textAlign = "right";
    c.textBaseline = "middle";
    const every = Math.ceil(13 / cell);
    for (let l = 0; l < layers; l += every) c.fillText(String(l), left - 7, top + (l + 0.5) * cell);
    c.textAlign = "center";
    for (let k = 0; k < heads; k += Math.ceil(20 / cell)) c.fillText(String(k), left + (k + 0.5) * cell, top - 9);
    const gap = cell > 20 ? 3 : 1;
    c.fillStyle = ink("map-none");
    for (let l = 0; l < layers; l++) {
      for (let k = 0; k < heads; k++) {
        const [x, y, side] = [left + k * cell + gap / 2, top + l * cell + gap / 2, cell - gap];
        c.fillRect(x, y, side, side);
        const thumbs = this.thumbs.get(l);
        c.imageSmoothingEnabled = thumbs?.columns > side * ratio;
        if (thumbs) c.drawImage(this.bitmap(thumbs, k), x, y, side, side);
      }
    }
  }

  bitmap({ rows, columns, bytes }, head) {
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const colours = ramp();
    const start = head * rows * columns;
    for (let i = 0; i < rows * columns; i++) pixels[i] = colours[bytes[start + i]];
    context.putImageData(image, 0, 0);
    return canvas;
  }

  /** A frame: one copy, two frames around cells. */
  blit() {
    if (this.stale) {
      this.paint();
      this.stale = false;
    }
    const ratio = window.devicePixelRatio || 1;
    const c = this.canvas.getContext("2d");
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    c.drawImage(this.sheet, 0, 0);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { cell, left, top } = this.place;
    const mark = ([l, k], colour, width) => {
      c.strokeStyle = colour;
      c.lineWidth = width;
      c.strokeRect(left + k * cell + 0.5, top + l * cell + 0.5, cell - 1, cell - 1);
    };
    if (this.hover) mark(this.hover, ink("quiet"), 1);
    mark(this.chosen, ink("accent"), 2);
  }
}
