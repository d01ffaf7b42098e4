// One head, large: queries down, keys across. Drawn from tiles, so that thousands of tokens are no more work a frame.
import { el, everyFrame, percent, say, short, visible } from "./dom.js";
import { ink, onTheme } from "./colour.js";
import { TILE } from "./tiles.js";

const LEFT = 84;
const TOP = 76;
const MOST_SCALE = 44;

/** A picture that can be moved and enlarged. `rowChosen(query)` is called when the cursor's row changes. */
export class HeadMap {
  constructor(parent, rowChosen) {
    this.rowChosen = rowChosen;
    this.canvas = el("canvas", {
      class: "map", tabindex: "0", role: "application", "aria-roledescription": "map of attention",
      "aria-label": "One head: arrow keys move between cells, plus and minus enlarge, 0 shows all, Escape leaves the cell",
    });
    const button = (text, label, work) =>
      el("button", { type: "button", class: "small", "aria-label": label, title: label, onclick: work }, text);
    this.read = el("p", { class: "readout" }, " ");
    this.tools = el("p", { class: "row tools" },
      button("−", "Show more", () => this.zoom(1 / 1.5)), button("+", "Enlarge", () => this.zoom(1.5)),
      button("All", "Show all", () => this.fit()));
    parent.append(this.canvas, el("div", { class: "under" }, this.read, this.tools));
    this.tiles = null;
    this.cursor = null;
    this.hover = null;
    this.view = { x: 0, y: 0, scale: 1 };
    this.frame = everyFrame(() => this.draw());
    this.listen(parent);
  }

  /** Another head, perhaps of another text. */
  show(tiles, queries, keys) {
    const same = this.tiles && this.tiles.queries === tiles.queries && this.tiles.keys === tiles.keys;
    Object.assign(this, { tiles, names: { queries, keys } });
    if (!same) {
      this.cursor = [tiles.queries - 1, 0];
      this.hover = null;
      this.resize();
      this.fit();
    }
    this.describe();
    this.frame();
  }

  listen(parent) {
    const canvas = this.canvas;
    onTheme(canvas, () => {
      this.tiles?.repaint();
      this.frame();
    });
    new ResizeObserver(() => this.resize()).observe(parent);
    let drag = null;
    canvas.addEventListener("pointerdown", (e) => {
      drag = { x: e.offsetX, y: e.offsetY, view: { ...this.view }, moved: false };
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener("pointermove", (e) => {
      if (drag && (drag.moved || Math.hypot(e.offsetX - drag.x, e.offsetY - drag.y) > 4)) {
        drag.moved = true;
        this.view.x = drag.view.x - (e.offsetX - drag.x) / this.view.scale;
        this.view.y = drag.view.y - (e.offsetY - drag.y) / this.view.scale;
        this.clamp();
      }
      this.hover = this.cellAt(e.offsetX, e.offsetY);
      this.describe();
      this.frame();
    });
    canvas.addEventListener("pointerup", (e) => {
      const cell = this.cellAt(e.offsetX, e.offsetY);
      if (drag && !drag.moved && cell) this.move(cell);
      drag = null;
    });
    canvas.addEventListener("pointercancel", () => (drag = null));
    canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.describe();
      this.frame();
    });
    canvas.addEventListener("wheel", (e) => {
      // Plain wheels scroll the page; with Ctrl, or two fingers, they enlarge.
      if (!e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      this.zoom(Math.exp(-e.deltaY / 200), e.offsetX, e.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (e) => this.key(e));
  }

  key(e) {
    if (!this.tiles || e.altKey || e.ctrlKey || e.metaKey) return;
    const { queries, keys } = this.tiles;
    const [q, k] = this.cursor ?? [queries - 1, 0];
    const to = {
      ArrowUp: [q - 1, k], ArrowDown: [q + 1, k], ArrowLeft: [q, k - 1], ArrowRight: [q, k + 1],
      PageUp: [q - 16, k], PageDown: [q + 16, k], Home: [q, 0], End: [q, this.tiles.causal ? q : keys - 1],
    }[e.key];
    if (to) this.move(this.cursor ? to : [q, k], true);
    else if (e.key === "+" || e.key === "=") this.zoom(1.5);
    else if (e.key === "-") this.zoom(1 / 1.5);
    else if (e.key === "0") this.fit();
    else if (e.key === "Escape" && this.cursor) this.move(null);
    else return;
    e.preventDefault();
  }

  move(cell, speak = false) {
    const { queries, keys } = this.tiles;
    const before = this.cursor;
    this.cursor = cell && [
      Math.min(Math.max(cell[0], 0), queries - 1), Math.min(Math.max(cell[1], 0), keys - 1),
    ];
    if (this.cursor) this.reveal();
    this.describe(speak);
    if (this.cursor && this.cursor[0] !== before?.[0]) this.rowChosen(this.cursor[0]);
    this.frame();
  }

  /** Moves so that the cursor is seen. */
  reveal() {
    const { view, room } = this;
    const inside = (at, from, size) => Math.min(Math.max(from, at + 1 - size / view.scale), at);
    view.x = inside(this.cursor[1], view.x, room.w);
    view.y = inside(this.cursor[0], view.y, room.h);
    this.clamp();
  }

  /** Says a cell in words. */
  describe(speak = false) {
    const cell = this.hover ?? this.cursor;
    this.waiting = false;
    if (!cell || !this.tiles) {
      this.read.textContent = " ";
      return;
    }
    const p = this.tiles.value(...cell);
    this.waiting = p === undefined;
    const name = (list, i) => `“${visible(list[i] ?? "")}” (${i})`;
    const text = `${name(this.names.queries, cell[0])} looks at ${name(this.names.keys, cell[1])}: ` +
      (p === undefined ? "…" : percent(p));
    this.read.textContent = text;
    if (speak) say(text);
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const wide = this.canvas.parentElement.clientWidth;
    if (!wide) return;
    const { queries, keys } = this.tiles ?? { queries: 1, keys: 1 };
    // As tall as what is to be shown, at most a square.
    const cell = Math.min((wide - LEFT - 8) / keys, MOST_SCALE);
    const tall = Math.min(Math.max(wide, 300), 620, Math.ceil(TOP + queries * cell + 8));
    if (this.wide === wide && this.tall === tall && this.ratio === ratio) return;
    const first = !this.room;
    const whole = first || Math.abs(this.view.scale - this.fitting()) < 1e-6;
    Object.assign(this, { wide, tall, ratio, room: { w: wide - LEFT - 8, h: tall - TOP - 8 } });
    this.canvas.width = Math.round(wide * ratio);
    this.canvas.height = Math.round(tall * ratio);
    this.canvas.style.width = `${wide}px`;
    this.canvas.style.height = `${tall}px`;
    if (whole) this.fit();
    else this.clamp();
    this.frame();
  }

  fitting() {
    if (!this.tiles || !this.room) return 1;
    return Math.min(this.room.w / this.tiles.keys, this.room.h / this.tiles.queries, MOST_SCALE);
  }

  fit() {
    this.view = { x: 0, y: 0, scale: this.fitting() };
    this.clamp();
    this.frame();
  }

  zoom(by, px = LEFT + this.room.w / 2, py = TOP + this.room.h / 2) {
    const { view } = this;
    const [x, y] = [view.x + (px - LEFT) / view.scale, view.y + (py - TOP) / view.scale];
    view.scale = Math.min(Math.max(view.scale * by, this.fitting()), MOST_SCALE);
    view.x = x - (px - LEFT) / view.scale;
    view.y = y - (py - TOP) / view.scale;
    this.clamp();
    this.frame();
  }

  clamp() {
    if (!this.tiles || !this.room) return;
    const { view, room, tiles } = this;
    view.x = Math.max(0, Math.min(view.x, tiles.keys - room.w / view.scale));
    view.y = Math.max(0, Math.min(view.y, tiles.queries - room.h / view.scale));
    // Where all is seen, a finger scrolls the page and not the picture.
    this.canvas.style.touchAction = view.scale > this.fitting() * 1.01 ? "none" : "pan-y";
  }

  cellAt(px, py) {
    if (!this.tiles || px < LEFT || py < TOP) return null;
    const k = Math.floor(this.view.x + (px - LEFT) / this.view.scale);
    const q = Math.floor(this.view.y + (py - TOP) / this.view.scale);
    return q < this.tiles.queries && k < this.tiles.keys ? [q, k] : null;
  }

  draw() {
    if (!this.tiles || !this.room) return;
    if (this.waiting) this.describe();
    const c = this.canvas.getContext("2d");
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.wide, this.tall);
    c.save();
    c.beginPath();
    c.rect(LEFT, TOP, this.room.w, this.room.h);
    c.clip();
    this.drawTiles(c);
    this.drawCell(c);
    c.restore();
    this.drawNames(c);
  }

  drawTiles(c) {
    const { view, room, tiles } = this;
    const detail = Math.round(Math.log2(1 / (view.scale * this.ratio)));
    const level = Math.min(Math.max(detail, 0), 6);
    const size = TILE << level;
    c.imageSmoothingEnabled = view.scale * this.ratio < (1 << level) ** -1;
    const [right, down] = [view.x + room.w / view.scale, view.y + room.h / view.scale];
    for (let r = Math.floor(view.y / size); r * size < Math.min(down, tiles.queries); r++) {
      for (let k = Math.floor(view.x / size); k * size < Math.min(right, tiles.keys); k++) {
        const tile = tiles.get(level, r, k);
        if (tile?.empty) continue;
        if (tile) this.drawTile(c, tile, 0, 0, tile.columns, tile.rows);
        else this.drawCoarser(c, level, r, k);
      }
    }
  }

  drawTile(c, tile, x, y, columns, rows) {
    const step = (1 << tile.level) * this.view.scale;
    const left = LEFT + ((tile.column * TILE + x) * step) - this.view.x * this.view.scale;
    const top = TOP + ((tile.row * TILE + y) * step) - this.view.y * this.view.scale;
    c.drawImage(this.tiles.bitmap(tile), x, y, columns, rows, left, top, columns * step, rows * step);
  }

  /** Until a tile comes: the part of a coarser one that covers it. */
  drawCoarser(c, level, r, k) {
    for (let up = 1; level + up <= 6; up++) {
      const tile = this.tiles.get(level + up, r >> up, k >> up, false);
      if (!tile || tile.empty) continue;
      const part = TILE >> up;
      const [x, y] = [(k % (1 << up)) * part, (r % (1 << up)) * part];
      this.drawTile(c, tile, x, y, Math.min(part, tile.columns - x), Math.min(part, tile.rows - y));
      return;
    }
  }

  drawCell(c) {
    const { view } = this;
    for (const [cell, colour] of [[this.cursor, ink("accent")], [this.hover, ink("ink")]]) {
      if (!cell) continue;
      const x = LEFT + (cell[1] - view.x) * view.scale;
      const y = TOP + (cell[0] - view.y) * view.scale;
      c.fillStyle = colour;
      c.globalAlpha = 0.1;
      const wide = Math.min(this.room.w, (this.tiles.keys - view.x) * view.scale);
      const tall = Math.min(this.room.h, (this.tiles.queries - view.y) * view.scale);
      c.fillRect(LEFT, y, wide, Math.max(view.scale, 1));
      c.fillRect(x, TOP, Math.max(view.scale, 1), tall);
      c.globalAlpha = 1;
      c.strokeStyle = colour;
      c.lineWidth = 1.5;
      c.strokeRect(x - 1, y - 1, Math.max(view.scale, 3) + 2, Math.max(view.scale, 3) + 2);
    }
  }

  drawNames(c) {
    const { view, room, tiles, names } = this;
    const line = 13;
    const every = 2 ** Math.max(0, Math.ceil(Math.log2(line / view.scale)));
    const cell = this.hover ?? this.cursor;
    c.font = "11px ui-monospace, Menlo, Consolas, monospace";
    c.textBaseline = "middle";
    c.textAlign = "right";
    const label = (list, i) => (every === 1 ? short(visible(list[i] ?? ""), 10) : String(i));
    const strong = (is) => (c.fillStyle = ink(is ? "ink" : "quiet"));
    const near = (i, at) => at !== undefined && i !== at && Math.abs(i - at) * view.scale < line;
    const rows = Math.min(tiles.queries, Math.ceil(view.y + room.h / view.scale));
    for (let q = Math.ceil(view.y / every) * every; q < rows; q += every) {
      if (near(q, cell?.[0]) || q === cell?.[0]) continue;
      strong(false);
      c.fillText(label(names.queries, q), LEFT - 6, TOP + (q + 0.5 - view.y) * view.scale);
    }
    const keys = Math.min(tiles.keys, Math.ceil(view.x + room.w / view.scale));
    const across = (k, text) => {
      c.save();
      c.translate(LEFT + (k + 0.5 - view.x) * view.scale, TOP - 6);
      c.rotate(-Math.PI / 2);
      c.textAlign = "left";
      c.fillText(text, 0, 0);
      c.restore();
    };
    strong(false);
    for (let k = Math.ceil(view.x / every) * every; k < keys; k += every) {
      if (!near(k, cell?.[1]) && k !== cell?.[1]) across(k, label(names.keys, k));
    }
    if (!cell) return;
    strong(true);
    const y = TOP + (cell[0] + 0.5 - view.y) * view.scale;
    if (y > TOP - 2 && y < this.tall) c.fillText(short(visible(names.queries[cell[0]] ?? ""), 10), LEFT - 6, y);
    const x = LEFT + (cell[1] + 0.5 - view.x) * view.scale;
    if (x > LEFT - 2 && x < this.wide) across(cell[1], short(visible(names.keys[cell[1]] ?? ""), 10));
  }
}
