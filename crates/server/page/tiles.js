// A head's pattern in tiles: loaded when seen, drawn once to a bitmap, then only copied.
import { ramp } from "./colour.js";

/** Rows and columns of a tile. */
export const TILE = 256;
const MOST_TILES = 160;

/** Tiles of one head; `load(level, row, column)` promises { rows, columns, values }. */
export class Tiles {
  constructor({ queries, keys, causal, load }, ready) {
    Object.assign(this, { queries, keys, causal, load, ready });
    this.kept = new Map();
    this.failed = null;
  }

  /** A tile that is there, or nothing, and then it is fetched. */
  get(level, row, column, fetch = true) {
    // Above the diagonal there is nothing to see.
    if (this.causal && column > row) return { empty: true };
    const key = `${level}.${row}.${column}`;
    const found = this.kept.get(key);
    if (found) {
      this.kept.delete(key);
      this.kept.set(key, found);
      return found.values ? found : undefined;
    }
    if (fetch && !this.failed) this.bring(key, level, row, column);
    return undefined;
  }

  bring(key, level, row, column) {
    const entry = { level, row, column, values: null, bitmap: null };
    entry.coming = this.load(level, row, column).then((tile) => {
      Object.assign(entry, tile);
      this.ready();
      return entry;
    }).catch((error) => {
      this.kept.delete(key);
      this.failed = error;
      this.ready();
    });
    this.kept.set(key, entry);
    if (this.kept.size > MOST_TILES) this.kept.delete(this.kept.keys().next().value);
    return entry;
  }

  /** The bitmap of a tile. */
  bitmap(tile) {
    if (!tile.bitmap) tile.bitmap = this.paint(tile);
    return tile.bitmap;
  }

  paint({ level, row, column, rows, columns, values }) {
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const colours = ramp();
    const step = 1 << level;
    for (let y = 0, i = 0; y < rows; y++) {
      const last = this.causal ? (row * TILE + y + 1) * step - 1 : Infinity;
      for (let x = 0; x < columns; x++, i++) {
        if ((column * TILE + x) * step <= last) pixels[i] = colours[Math.min(255, Math.sqrt(values[i]) * 255) | 0];
      }
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  /** After light and dark have changed. */
  repaint() {
    for (const entry of this.kept.values()) entry.bitmap = null;
  }

  /** One weight, if its tile is there; it is fetched if not. */
  value(query, key) {
    if (this.causal && key > query) return 0;
    const tile = this.get(0, Math.floor(query / TILE), Math.floor(key / TILE));
    if (!tile) return undefined;
    return tile.empty ? 0 : tile.values[(query % TILE) * tile.columns + (key % TILE)];
  }

  /** A whole row. */
  async row(query) {
    const out = new Float32Array(this.keys);
    const r = Math.floor(query / TILE);
    const wait = [];
    for (let c = 0; c * TILE < this.keys; c++) {
      if (this.causal && c > r) break;
      const key = `0.${r}.${c}`;
      wait.push((this.kept.get(key) ?? this.bring(key, 0, r, c)).coming.then((tile) => {
        if (!tile) throw this.failed;
        const start = (query % TILE) * tile.columns;
        out.set(tile.values.subarray(start, start + tile.columns), c * TILE);
      }));
    }
    await Promise.all(wait);
    return out;
  }

  /** All weights (T, S). */
  async whole() {
    const out = new Float32Array(this.queries * this.keys);
    for (let q = 0; q < this.queries; q += 1) out.set(await this.row(q), q * this.keys);
    return out;
  }
}

/** A piece of a pattern that is all here: what the server does, for pages without one. */
export function cut(weights, queries, keys, level, row, column) {
  const step = 1 << level;
  const rows = Math.min(TILE, Math.ceil(queries / step) - row * TILE);
  const columns = Math.min(TILE, Math.ceil(keys / step) - column * TILE);
  const values = new Float32Array(rows * columns);
  for (let y = row * TILE * step; y < Math.min((row * TILE + rows) * step, queries); y++) {
    const to = (Math.floor(y / step) - row * TILE) * columns;
    for (let x = column * TILE * step; x < Math.min((column * TILE + columns) * step, keys); x++) {
      const i = to + Math.floor(x / step) - column * TILE;
      values[i] = Math.max(values[i], weights[y * keys + x]);
    }
  }
  return { rows, columns, values };
}

/** Weights as text, 16 bits each; and back. */
export function pack(weights) {
  const bytes = new Uint8Array(2 * weights.length);
  const view = new DataView(bytes.buffer);
  weights.forEach((w, i) => view.setUint16(2 * i, Math.round(w * 65535), true));
  return packBytes(bytes);
}

export function packBytes(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

export function unpackBytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

export function unpack(text) {
  const view = new DataView(unpackBytes(text).buffer);
  const out = new Float32Array(view.byteLength / 2);
  return out.map((_, i) => view.getUint16(2 * i, true) / 65535);
}
