// Figure: who looks at whom. All heads, one of them large, and one of its rows in words.
import { choice, el, percent, visible } from "./dom.js";
import { esc, paper, svgPage } from "./picture.js";
import { HeadMap } from "./map.js";
import { Overview } from "./overview.js";
import { cut, pack, packBytes, Tiles, unpack, unpackBytes } from "./tiles.js";

const ROWS = 8;

/** A source that needs no server: what was packed into an exported page. */
function still(data) {
  const maps = new Map();
  return {
    async thumbs(stack, layer) {
      const { rows, columns, bytes } = data.thumbs[layer];
      return { rows, columns, bytes: unpackBytes(bytes) };
    },
    async tile(stack, layer, head, level, row, column) {
      const key = `${layer}.${head}`;
      if (!data.heads[key]) throw new Error("this head was not exported: the command above shows all of them");
      if (!maps.has(key)) maps.set(key, unpack(data.heads[key]));
      const [queries, keys] = [data.queries.length, data.keys.length];
      return cut(maps.get(key), queries, keys, level, row, column);
    },
  };
}

/** Shows attention. `data`: { stacks, text, source, at: { stack, layer, head } }, text and source as lists of words;
 *  `live` has `thumbs(stack, layer)` and `tile(stack, layer, head, level, row, column)`. */
export function attentionView(element, data, live) {
  const view = new Attention(element, data, live ?? still(data));
  view.stackChosen();
  return view;
}

class Attention {
  constructor(element, data, source) {
    Object.assign(this, { data, source, at: { ...data.at }, round: 0 });
    this.name = "attention";
    const names = data.stacks.map((s) => [s.name, s.title]);
    this.stackBox = choice("Which", names, this.at.stack, (v) => {
      this.at.stack = v;
      this.stackChosen();
    });
    this.stackBox.box.hidden = names.length < 2;
    this.layerBox = choice("Layer", [], "", (v) => this.choose(Number(v), this.at.head));
    this.headBox = choice("Head", [], "", (v) => this.choose(this.at.layer, Number(v)));
    const left = el("div", { class: "left" });
    const right = el("div", { class: "right" });
    this.fault = el("p", { class: "fault", role: "alert", hidden: true });
    this.table = el("table", { class: "plain" });
    element.replaceChildren(
      el("p", { class: "row" }, this.stackBox.box, this.layerBox.box, this.headBox.box), this.fault,
      el("div", { class: "pair attention" }, left, right, el("div", { class: "words" }, this.table)));
    this.overview = new Overview(left, (layer, head) => this.choose(layer, head));
    this.overview.canvas.addEventListener("keydown", (e) => e.key === "Enter" && this.map.canvas.focus());
    this.map = new HeadMap(right, (query) => this.row(query));
  }

  get stack() {
    return this.data.stacks.find((s) => s.name === this.at.stack) ?? this.data.stacks[0];
  }

  get queries() {
    return this.stack.from_source ? this.data.source : this.data.text;
  }

  get keys() {
    return this.stack.to_source ? this.data.source : this.data.text;
  }

  /** Fills the grid of heads, layer by layer. */
  async stackChosen() {
    const round = ++this.round;
    const { name, layers, heads } = this.stack;
    this.at.layer = Math.min(this.at.layer, layers - 1);
    this.at.head = Math.min(this.at.head, heads - 1);
    const list = (n) => Array.from({ length: n }, (_, i) => el("option", { value: i }, String(i)));
    this.layerBox.select.replaceChildren(...list(layers));
    this.headBox.select.replaceChildren(...list(heads));
    this.overview.reset(layers, heads);
    this.choose(this.at.layer, this.at.head);
    this.overview.canvas.setAttribute("aria-busy", "true");
    try {
      for (let layer = 0; layer < layers; layer++) {
        const thumbs = await this.source.thumbs(name, layer);
        if (round !== this.round) return;
        this.overview.set(layer, thumbs);
      }
    } catch (error) {
      if (round === this.round) this.failed(error);
    }
    if (round === this.round) this.overview.canvas.removeAttribute("aria-busy");
  }

  choose(layer, head) {
    Object.assign(this.at, { layer, head });
    this.layerBox.select.value = layer;
    this.headBox.select.value = head;
    this.overview.choose(layer, head);
    this.fault.hidden = true;
    const stack = this.stack.name;
    this.tiles = new Tiles({
      queries: this.queries.length, keys: this.keys.length, causal: this.stack.causal,
      load: (level, r, c) => this.source.tile(stack, layer, head, level, r, c),
    }, () => this.ready());
    this.map.show(this.tiles, this.queries, this.keys);
    this.row(this.map.cursor?.[0] ?? this.queries.length - 1);
  }

  ready() {
    if (this.tiles.failed) this.failed(this.tiles.failed);
    this.map.frame();
  }

  failed(error) {
    this.fault.textContent = error.message;
    this.fault.hidden = false;
  }

  /** The strongest looks of a query, in words: what the picture says for those who cannot see it. */
  async row(query) {
    const tiles = this.tiles;
    let row;
    try {
      row = await tiles.row(query);
    } catch {
      return; // said by `ready`
    }
    if (tiles !== this.tiles) return;
    const { layer, head } = this.at;
    const best = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, ROWS).filter((k) => row[k] > 0);
    const title = `Layer ${layer}, head ${head}: where “${visible(this.queries[query])}” (${query}) looks`;
    const line = (cells, tag) => el("tr", {}, cells.map((c) => el(tag, tag === "th" ? { scope: "col" } : {}, c)));
    this.table.replaceChildren(el("caption", {}, title),
      el("thead", {}, line(["at", "position", "share"], "th")),
      el("tbody", {}, best.map((k) => line([visible(this.keys[k]), String(k), percent(row[k])], "td"))));
  }

  title() {
    return `Attention of layer ${this.at.layer}, head ${this.at.head} (${this.stack.name})`;
  }

  /** The chosen head in numbers. */
  async json() {
    const w = await this.tiles.whole();
    const [t, s] = [this.queries.length, this.keys.length];
    const rows = Array.from({ length: t }, (_, q) => Array.from(w.subarray(q * s, q * s + s), (p) => Number(p.toFixed(6))));
    return { ...this.at, queries: this.queries, keys: this.keys, weights: rows };
  }

  /** What an exported page needs: all thumbnails, and the heads that fit into 4 MB. */
  async packed() {
    const { stack, data, at, queries, keys } = this;
    const thumbs = [];
    const heads = {};
    const every = 2 * queries.length * keys.length * stack.layers * stack.heads < 4e6;
    for (let layer = 0; layer < stack.layers; layer++) {
      const { rows, columns, bytes } = await this.source.thumbs(stack.name, layer);
      thumbs.push({ rows, columns, bytes: packBytes(bytes) });
      for (let head = 0; every && head < stack.heads; head++) {
        const load = (level, r, c) => this.source.tile(stack.name, layer, head, level, r, c);
        const tiles = new Tiles({ queries: queries.length, keys: keys.length, causal: stack.causal, load }, () => {});
        heads[`${layer}.${head}`] = pack(await tiles.whole());
      }
    }
    if (!every) heads[`${at.layer}.${at.head}`] = pack(await this.tiles.whole());
    return { stacks: [stack], text: data.text, source: data.source, at, queries, keys, thumbs, heads };
  }

  async svg() {
    const w = await this.tiles.whole();
    const [t, s] = [this.queries.length, this.keys.length];
    const side = Math.max(1, Math.min(18, Math.floor(900 / Math.max(t, s))));
    const [left, top] = [110, 130];
    let body = "";
    if (t * s <= 40000) {
      for (let q = 0; q < t; q++) {
        for (let k = 0; k < s; k++) {
          const p = w[q * s + k];
          if (p < 0.002) continue;
          const tip = `${visible(this.queries[q])} → ${visible(this.keys[k])}: ${percent(p)}`;
          body += `<rect x="${left + k * side}" y="${top + q * side}" width="${side}" height="${side}" fill="${paper(p)}"><title>${esc(tip)}</title></rect>\n`;
        }
      }
    } else {
      body += `<image x="${left}" y="${top}" width="${s * side}" height="${t * side}" preserveAspectRatio="none" href="${bitmap(w, t, s)}"/>\n`;
    }
    if (side >= 9) {
      this.queries.forEach((x, q) => (body += `<text x="${left - 6}" y="${top + q * side + side / 2 + 4}" font-size="${Math.min(12, side)}" text-anchor="end">${esc(visible(x))}</text>\n`));
      this.keys.forEach((x, k) => (body += `<text transform="translate(${left + k * side + side / 2 + 4} ${top - 6}) rotate(-90)" font-size="${Math.min(12, side)}">${esc(visible(x))}</text>\n`));
    }
    body += `<rect x="${left}" y="${top}" width="${s * side}" height="${t * side}" fill="none" stroke="#1d2026" stroke-width="0.5"/>\n`;
    return svgPage(left + s * side + 20, top + t * side + 20, this.title(), body);
  }
}

/** Weights as a picture of one pixel each, for patterns too large for rectangles. */
function bitmap(weights, t, s) {
  const canvas = el("canvas", { width: s, height: t });
  const context = canvas.getContext("2d");
  const image = context.createImageData(s, t);
  weights.forEach((p, i) => {
    const k = Math.sqrt(Math.min(p, 1));
    image.data.set([255 - 228 * k, 255 - 197 * k, 255 - 127 * k, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas.toDataURL("image/png");
}
