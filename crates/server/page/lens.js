// Figure: the residual stream read through the head at each depth (the logit lens, nostalgebraist 2020).
import { el, percent, roving, say, short, visible } from "./dom.js";
import { onShade, onTheme, shade } from "./colour.js";
import { bars } from "./bars.js";
import { esc, paper, svgPage } from "./picture.js";

/** Shows the lens. `data`: { words, from, depths, cells, width }; `live.lens(from, count)` gives other positions. */
export function lensView(element, data, live) {
  return new LensView(element, data, live);
}

class LensView {
  constructor(element, data, live) {
    Object.assign(this, { data, live, name: "lens", element });
    this.chosen = null;
    this.box = el("div", { class: "scroll" });
    this.detail = el("div", { class: "detail" });
    this.where = el("span", { class: "hint" });
    this.fault = el("p", { class: "fault", role: "alert", hidden: true });
    const step = (text, by) => el("button", { type: "button", class: "small", onclick: () => this.step(by) }, text);
    this.back = step("◂ earlier", -1);
    this.on = step("later ▸", 1);
    this.tools = el("p", { class: "row" }, this.back, this.on, this.where);
    element.replaceChildren(this.tools, this.fault, this.box, this.detail);
    onTheme(this.box, () => this.table());
    this.table();
    this.choose(0, this.data.cells[0].length - 1);
  }

  get count() {
    return this.data.cells[0].length;
  }

  async step(by) {
    const total = this.data.words.length;
    const from = Math.min(Math.max(this.data.from + by * this.count, 0), Math.max(0, total - this.data.width));
    if (!this.live || from === this.data.from) return;
    try {
      Object.assign(this.data, await this.live.lens(from, Math.min(this.data.width, total - from)));
      this.fault.hidden = true;
      this.table();
      this.choose(0, this.count - 1);
      say(`positions ${from} to ${from + this.count - 1}`);
    } catch (error) {
      this.fault.textContent = error.message;
      this.fault.hidden = false;
    }
  }

  /** Deepest first, so that the stream rises from the bottom as in the papers. */
  get rows() {
    return this.data.depths.map((name, depth) => ({ name, depth, cells: this.data.cells[depth] })).reverse();
  }

  table() {
    const { words, from } = this.data;
    const total = words.length;
    this.where.textContent = `positions ${from}–${from + this.count - 1} of ${total}`;
    this.tools.hidden = this.count === total;
    this.back.disabled = !this.live || from === 0;
    this.on.disabled = !this.live || from + this.count >= total;
    const head = Array.from({ length: this.count }, (_, i) =>
      el("th", { scope: "col", title: `position ${from + i}` }, short(visible(words[from + i] ?? ""), 8)));
    const body = this.rows.map(({ name, cells }, r) => el("tr", {},
      el("th", { scope: "row" }, name), cells.map((cell, i) => this.cell(cell, name, r, i))));
    const grid = el("table", { class: "lens", role: "grid", "aria-label": "Best guess by depth and position" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "read after"), head)), el("tbody", {}, body));
    this.box.replaceChildren(grid);
    roving(grid, "td", () => this.count);
    this.box.scrollLeft = this.box.scrollWidth;
  }

  cell(guesses, name, row, column) {
    const best = guesses[0];
    const p = best.probability;
    const act = () => this.choose(row, column, true);
    return el("td", {
      role: "gridcell", tabindex: "-1", style: { background: shade(p), color: onShade(p) },
      title: `${name}: “${visible(best.text)}” ${percent(p)}`,
      "aria-label": `${visible(best.text)} ${percent(p)}`,
      onclick: act,
      onkeydown: (e) => {
        if (e.key !== "Enter" && e.key !== " ") return;
        e.preventDefault();
        act();
      },
    }, short(visible(best.text), 8));
  }

  /** The ten best of a cell. */
  choose(row, column, speak = false) {
    this.chosen = [row, column];
    const { name, cells } = this.rows[row];
    const guesses = cells[column];
    for (const td of this.box.querySelectorAll("td.chosen")) td.classList.remove("chosen");
    this.box.querySelectorAll("tbody tr")[row].querySelectorAll("td")[column].classList.add("chosen");
    const position = this.data.from + column;
    const caption = `${name}, at “${visible(this.data.words[position] ?? "")}” (${position})`;
    const lines = guesses.map((g) => ({ label: visible(g.text), value: g.probability, text: percent(g.probability), title: `token ${g.id}, logit ${g.logit.toFixed(3)}` }));
    this.detail.replaceChildren(bars(caption, lines, [0, Math.max(...lines.map((l) => l.value))]));
    if (speak) say(`${caption}: ${lines.slice(0, 3).map((l) => `${l.label} ${l.text}`).join(", ")}`);
  }

  title() {
    const { from } = this.data;
    return `The stream at each depth, positions ${from} to ${from + this.count - 1}`;
  }

  async json() {
    return { ...this.data, words: this.data.words };
  }

  async packed() {
    return this.data;
  }

  async svg() {
    const [left, top, w, h] = [130, 70, 86, 24];
    let body = "";
    for (let i = 0; i < this.count; i++) {
      body += `<text x="${left + i * w + 4}" y="${top - 10}">${esc(short(visible(this.data.words[this.data.from + i]), 10))}</text>\n`;
    }
    this.rows.forEach(({ name, cells }, r) => {
      body += `<text x="${left - 8}" y="${top + r * h + 16}" text-anchor="end">${esc(name)}</text>\n`;
      cells.forEach((g, i) => {
        const p = g[0].probability;
        body += `<rect x="${left + i * w}" y="${top + r * h}" width="${w - 2}" height="${h - 2}" fill="${paper(p)}"><title>${esc(visible(g[0].text))} ${percent(p)}</title></rect>` +
          `<text x="${left + i * w + 4}" y="${top + r * h + 15}" fill="${p > 0.42 ? "#ffffff" : "#1d2026"}">${esc(short(visible(g[0].text), 10))}</text>\n`;
      });
    });
    return svgPage(left + this.count * w + 16, top + this.rows.length * h + 12, this.title(), body);
  }
}
