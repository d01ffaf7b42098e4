// Figure: who wrote this logit. The stream is a sum, so a logit is one too.
import { choice, el, percent, say, signed, visible } from "./dom.js";
import { bars } from "./bars.js";
import { barPicture } from "./picture.js";

/** Shows an attribution. `data`: { words, guesses, layers, shown } with `shown` as the server gives it;
 *  `live.attribution(whose)` asks for another token, another rival or the heads of a layer. */
export function attributionView(element, data, live) {
  return new AttributionView(element, data, live);
}

class AttributionView {
  constructor(element, data, live) {
    Object.assign(this, { data, live, name: "attribution", order: "model" });
    const { shown, guesses, layers } = data;
    const name = (g) => `${visible(g.text)} ${percent(g.probability)}`;
    const list = guesses.map((g) => [String(g.id), name(g)]);
    if (!list.some(([id]) => id === String(shown.token.id))) list.unshift([String(shown.token.id), visible(shown.token.text)]);
    const ask = () => this.ask();
    this.token = choice("Score of", list, String(shown.token.id), ask);
    this.rival = choice("less that of", [["", "nothing"], ...list], shown.against ? String(shown.against.id) : "", ask);
    const numbers = Array.from({ length: layers }, (_, i) => [String(i), `layer ${i}`]);
    this.layer = choice("Heads of", [["", "no layer"], ...numbers], shown.layer === null ? "" : String(shown.layer), ask);
    this.sort = choice("Order", [["model", "as in the model"], ["size", "by size"]], this.order, (v) => {
      this.order = v;
      this.show();
    });
    for (const box of [this.token, this.rival, this.layer]) box.select.disabled = !live;
    this.fault = el("p", { class: "fault", role: "alert", hidden: true });
    this.tables = el("div", { class: "pair even" });
    this.note = el("p", { class: "hint" });
    element.replaceChildren(
      el("p", { class: "row" }, this.token.box, this.rival.box, this.layer.box, this.sort.box),
      this.fault, this.tables, this.note);
    this.show();
  }

  async ask() {
    const id = (box) => (box.select.value === "" ? null : Number(box.select.value));
    try {
      this.data.shown = await this.live.attribution({
        position: this.data.shown.position, token: id(this.token), against: id(this.rival), layer: id(this.layer),
      });
      this.fault.hidden = true;
      this.show();
      const best = this.sorted(this.data.shown.parts, "size")[0];
      say(`${this.sum()}; most from ${best.label}, ${signed(best.value)}`);
    } catch (error) {
      this.fault.textContent = error.message;
      this.fault.hidden = false;
    }
  }

  sorted(parts, order = this.order) {
    return order === "size" ? [...parts].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)) : parts;
  }

  sum() {
    const { token, against, total } = this.data.shown;
    const rival = against ? ` less “${visible(against.text)}”` : "";
    return `“${visible(token.text)}”${rival}: ${signed(total)} logits in all`;
  }

  show() {
    const { shown } = this.data;
    const row = (p, chosen) => ({
      label: p.label, value: p.value, text: signed(p.value), title: `${p.site}: ${p.value}`, chosen,
      onclick: this.live && p.layer !== null && p.head === null ? () => this.open(p.layer) : null,
    });
    const made = [bars(this.sum(), this.sorted(shown.parts).map((p) => row(p, p.layer !== null && p.layer === shown.layer)))];
    if (shown.heads.length) {
      made.push(bars(`Heads of layer ${shown.layer}`, this.sorted(shown.heads).map((p) => row(p, false))));
    }
    this.tables.replaceChildren(...made);
    this.note.textContent = shown.note;
  }

  /** A click on a component shows the heads of its layer. */
  open(layer) {
    this.layer.select.value = String(layer);
    this.ask();
  }

  title() {
    const { position } = this.data.shown;
    return `Who wrote ${this.sum()}, after “${visible(this.data.words[position] ?? "")}” (${position})`;
  }

  async json() {
    return this.data.shown;
  }

  async packed() {
    return this.data;
  }

  async svg() {
    const rows = (parts) => this.sorted(parts).map((p) => ({ label: p.label, value: p.value, text: signed(p.value) }));
    const { parts, heads, layer } = this.data.shown;
    const groups = [{ name: "components", rows: rows(parts) }];
    if (heads.length) groups.push({ name: `heads of layer ${layer}`, rows: rows(heads) });
    return barPicture(this.title(), groups);
  }
}
