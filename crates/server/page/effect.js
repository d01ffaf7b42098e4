// Figure: what depends on what. Components are switched off, or given what another text has there.
import { choice, el, percent, roving, say, visible } from "./dom.js";
import { bars } from "./bars.js";
import { barPicture } from "./picture.js";

const HOW = [["zero", "nothing (zero)"], ["mean", "its mean over the text"], ["scale", "itself, scaled"], ["patch", "what another text has there"]];
/** More heads than this are shown for one layer at a time. */
const MOST_HEADS = 600;

/** Shows edits and their effect. `data`: { words, prompt, stacks, position, edits, shown }; `live.effect(edits)` asks. */
export function effectView(element, data, live) {
  return new EffectView(element, data, live);
}

class EffectView {
  constructor(element, data, live) {
    Object.assign(this, { data, live, name: "effect", how: "zero", where: "all", layer: 0, round: 0 });
    this.board = el("div", { class: "scroll" });
    this.list = el("ul", { class: "edits", "aria-label": "Edits" });
    this.fault = el("p", { class: "fault", role: "alert", hidden: true });
    this.result = el("div", { class: "pair even" });
    const how = choice("Replace by", HOW, this.how, (v) => {
      this.how = v;
      this.other.hidden = v !== "patch";
      this.times.hidden = v !== "scale";
    });
    const here = `only ${data.position} “${visible(data.words[data.position] ?? "")}”`;
    const where = choice("at", [["all", "all positions"], ["one", here]], this.where, (v) => (this.where = v));
    this.where_ = where.select;
    this.factor = el("input", { type: "number", value: "2", step: "0.5" });
    this.times = el("label", { class: "choice", hidden: true }, "times", this.factor);
    const stacks = choice("in", data.stacks.map((s, i) => [String(i), s.title]), "0", (v) => this.stackChosen(data.stacks[Number(v)]));
    stacks.box.hidden = data.stacks.length < 2;
    this.text = el("textarea", { rows: "2", spellcheck: "false" });
    this.otherName = el("span", {});
    this.other = el("label", { class: "other", hidden: true }, this.otherName, this.text);
    this.tools = el("div", {}, el("p", { class: "row" }, how.box, this.times, where.box, stacks.box), this.other);
    const parts = live ? [this.tools, this.board] : [];
    element.replaceChildren(...parts, this.list, this.fault, this.result);
    if (live) this.stackChosen(data.stacks[0]);
    this.listEdits();
    this.show();
  }

  /** Attention of one stack, with its blocks' other parts. */
  stackChosen(stack) {
    this.stack = stack;
    this.layer = Math.min(this.layer, stack.layers - 1);
    // An encoder has positions of its own.
    this.where_.disabled = stack.from_source;
    if (stack.from_source) this.where_.value = this.where = "all";
    this.text.value = stack.to_source ? this.data.prompt.source : this.data.prompt.text;
    this.otherName.textContent = `Other ${stack.to_source ? "source" : "text"}, with as many tokens`;
    this.drawBoard();
    this.listEdits();
  }

  /** A button for each component; the deepest layer on top. */
  drawBoard() {
    const { layers, heads } = this.stack;
    const many = layers * heads > MOST_HEADS;
    const shown = many ? [this.layer] : Array.from({ length: layers }, (_, i) => layers - 1 - i);
    const cells = (layer) => [
      ...Array.from({ length: heads }, (_, h) => this.button(layer, "head", h)),
      this.button(layer, "attention"), this.button(layer, "MLP"), this.button(layer, "stream"),
    ];
    const rows = shown.map((layer) => el("tr", {}, el("th", { scope: "row" }, `layer ${layer}`),
      cells(layer).map((b) => el("td", {}, b))));
    const table = el("table", { class: "board" }, el("caption", { class: "unseen" }, "Components, to be clicked"),
      el("tbody", {}, rows));
    const pick = choice("Layer", Array.from({ length: layers }, (_, i) => [String(i), String(i)]), String(this.layer), (v) => {
      this.layer = Number(v);
      this.drawBoard();
    });
    this.board.replaceChildren(...(many ? [pick.box] : []), table);
    roving(table, "button", heads + 3);
  }

  site(layer, what) {
    const { prefix, attention } = this.stack;
    const names = { head: `${attention}.hook_z`, attention: attention === "attn" ? "hook_attn_out" : "hook_cross_attn_out", MLP: "hook_mlp_out", stream: "hook_resid_post" };
    return `${prefix}.${layer}.${names[what]}`;
  }

  button(layer, what, head = null) {
    const site = this.site(layer, what);
    const { from_source, to_source } = this.stack;
    const more = from_source ? ", encoder" : to_source && (head !== null || what === "attention") ? ", cross-attention" : "";
    const label = `${head === null ? what : `head ${head}`} of layer ${layer}${more}`;
    const made = el("button", {
      type: "button", class: what === "head" ? "part one" : "part", title: label, "aria-label": label,
      "data-key": `${site}#${head}`, "aria-pressed": "false", onclick: () => this.toggle(site, head, label),
    }, head === null ? what : String(head));
    return made;
  }

  toggle(site, head, label) {
    const { edits, position } = this.data;
    const at = edits.findIndex((e) => e.site === site && e.head === head);
    if (at >= 0) edits.splice(at, 1);
    else {
      edits.push({
        site, head, label, how: this.how, position: this.where === "one" ? position : null,
        factor: this.how === "scale" ? Number(this.factor.value) : null,
        [this.stack.to_source ? "source" : "text"]: this.how === "patch" ? this.text.value : null,
      });
    }
    this.ask();
  }

  async ask() {
    const round = ++this.round;
    this.listEdits();
    try {
      const shown = await this.live.effect(this.data.edits.map(({ label, ...edit }) => edit));
      if (round !== this.round) return;
      this.data.shown = shown;
      this.fault.hidden = true;
      this.show();
      const first = shown.rows[0];
      if (first) say(`${visible(first.text)} from ${percent(first.before)} to ${percent(first.after)}`);
    } catch (error) {
      if (round !== this.round) return;
      this.fault.textContent = error.message;
      this.fault.hidden = false;
      this.result.replaceChildren();
    }
  }

  listEdits() {
    const { edits } = this.data;
    const words = (e) => {
      const how = { zero: "is zero", mean: "is its mean", patch: `is as in “${e.source ?? e.text}”`, scale: `is ${e.factor} times itself` }[e.how];
      return `${e.label} ${how}${e.position === null ? "" : ` at position ${e.position}`}`;
    };
    const line = (e, i) => el("li", {}, words(e), this.live ? el("button", {
      type: "button", class: "small", "aria-label": `Undo: ${words(e)}`,
      onclick: () => {
        edits.splice(i, 1);
        this.ask();
      },
    }, "undo") : null);
    this.list.replaceChildren(...edits.map(line));
    const keys = new Set(edits.map((e) => `${e.site}#${e.head}`));
    for (const b of this.board.querySelectorAll("button[data-key]")) b.setAttribute("aria-pressed", String(keys.has(b.dataset.key)));
  }

  show() {
    const { shown, edits } = this.data;
    if (!shown) return;
    const top = Math.max(...shown.rows.flatMap((r) => [r.before, r.after]));
    const side = (key) => shown.rows.map((r) => ({ label: visible(r.text), value: r[key], text: percent(r[key]), title: `token ${r.id}: ${r.before} → ${r.after}` }));
    this.result.replaceChildren(bars("Before", side("before"), [0, top]),
      bars(edits.length ? `After ${edits.length} ${edits.length === 1 ? "edit" : "edits"}: ${shown.divergence.toFixed(3)} nats away` : "After: nothing is edited", side("after"), [0, top]));
  }

  title() {
    return `What the model says at position ${this.data.position}, before and after edits`;
  }

  async json() {
    const { edits, shown, position } = this.data;
    return { position, edits, ...shown };
  }

  async packed() {
    return this.data;
  }

  async svg() {
    const rows = (key) => this.data.shown.rows.map((r) => ({ label: visible(r.text), value: r[key], text: percent(r[key]) }));
    return barPicture(this.title(), [{ name: "before", rows: rows("before") }, { name: "after", rows: rows("after") }]);
  }
}
