// The live page: asks, and hands the answers to the figures.
import { el, say, visible } from "./dom.js";
import { themeSwitch } from "./colour.js";
import { ask, askThumbs, askTile } from "./api.js";
import { saveMenu } from "./save.js";
import { tokensView } from "./tokens.js";
import { attentionView } from "./attention.js";
import { lensView } from "./lens.js";
import { attributionView } from "./attribution.js";
import { effectView } from "./effect.js";
import { gaugesView } from "./gauges.js";

const get = (id) => document.getElementById(id);
const state = { card: null, prompt: null, tokens: null, position: 0, stop: new AbortController(), run: null };

const CAPTIONS = {
  gauges: ["Training", "Each curve is one number that the run writes down while it learns; the slider loads the model as it was at a checkpoint."],
  tokens: ["Tokens", "The model reads a text in pieces; the figures below are about what it says at the piece that you choose."],
  attention: ["Attention", "Each small square is a head, and each of its rows shows from which positions (columns) a token fetched what it needed."],
  lens: ["The stream, read early", "If the model had to answer after each layer, this is what it would say: you see at which depth it makes up its mind."],
  attribution: ["Who wrote this score", "The score of a token is a sum, and each bar is what one component added to it or took away."],
  effect: ["What depends on what", "Click a component to silence it, to scale it or to give it what another text has there, and watch which predictions needed it."],
};

/** A section with number, title, one sentence and its menu. */
class Panel {
  constructor(name) {
    const [title, sentence] = CAPTIONS[name];
    this.name = name;
    this.body = el("div", { class: "body" });
    this.view = null;
    const menu = name === "tokens" ? null : saveMenu(() => this.view, command);
    this.section = el("section", { class: "panel", "aria-labelledby": `h-${name}`, "data-panel": name },
      el("div", { class: "head" }, el("h2", { id: `h-${name}` }, title), menu),
      el("p", { class: "caption" }, sentence), this.body);
    this.round = 0;
  }

  /** Shows what `work` promises, or why there is nothing. */
  async fill(work) {
    const round = ++this.round;
    this.section.setAttribute("aria-busy", "true");
    try {
      const make = await work();
      if (round !== this.round) return;
      this.view = make(this.body);
    } catch (error) {
      if (round !== this.round || error.name === "AbortError") return;
      this.view = null;
      this.body.replaceChildren(el("p", { class: error.reason === "missing" ? "later" : "fault" }, error.message));
    } finally {
      if (round === this.round) this.section.removeAttribute("aria-busy");
    }
  }
}

const panels = {};

/** The command that shows the same. */
function command() {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const { text, source } = state.prompt ?? { text: "", source: "" };
  const more = source ? ` --source ${quote(source)}` : "";
  return `${state.card.command} --text ${quote(text)}${more}`;
}

function showCard(card) {
  state.card = card;
  document.title = `${card.title} · pellucid`;
  get("title").textContent = card.title;
  get("facts").textContent = card.checkpoint ? `${card.facts} · ${card.checkpoint}` : card.facts;
  get("source-label").hidden = !card.has_source;
}

/** A new text: everything is asked again. */
async function look() {
  state.stop.abort();
  state.stop = new AbortController();
  const { signal } = state.stop;
  const prompt = { text: get("text").value, source: state.card.has_source ? get("source").value : "" };
  get("busy").hidden = false;
  get("fault").hidden = true;
  try {
    const tokens = await ask("tokens", prompt, signal);
    Object.assign(state, { prompt, tokens, position: first(tokens.text) });
    say(`${tokens.text.length} tokens`);
    panels.tokens.fill(async () => (body) => tokensView(body, { tokens: tokens.text, source: tokens.source, chosen: state.position }, choose));
    await Promise.all([showAttention(signal), showLens(signal), showNext(signal)]);
  } catch (error) {
    if (error.name === "AbortError") return;
    get("fault").textContent = error.message;
    get("fault").hidden = false;
  } finally {
    if (!signal.aborted) get("busy").hidden = true;
  }
}

/** Where to look at first: at the gap that an encoder is to fill, else at the end. */
function first(tokens) {
  const gap = state.card.stacks[0].causal ? -1 : tokens.findIndex((t) => ["[MASK]", "<mask>"].includes(t.text));
  return gap < 0 ? tokens.length - 1 : gap;
}

const words = (list) => list.map((t) => t.text);

function showAttention(signal) {
  const { prompt, tokens, card } = state;
  const live = {
    thumbs: (stack, layer) => askThumbs({ prompt, stack, layer }, signal),
    tile: (stack, layer, head, level, row, column) =>
      askTile({ prompt, at: { stack, layer, head }, piece: { level, row, column } }, signal),
  };
  const at = panels.attention.view?.at ?? { stack: card.stacks[0].name, layer: 0, head: 0 };
  const data = { stacks: card.stacks, text: words(tokens.text), source: words(tokens.source), at };
  return panels.attention.fill(async () => (body) => attentionView(body, data, live));
}

function showLens(signal) {
  const { prompt, tokens } = state;
  const total = tokens.text.length;
  const wide = panels.lens.body.clientWidth || 600;
  const width = Math.max(3, Math.min(16, total, Math.floor((wide - 110) / 78)));
  const from = Math.min(Math.max(0, state.position - width + 1), total - width);
  const live = { lens: (first, count) => ask("lens", { prompt, from: first, count }, signal) };
  return panels.lens.fill(async () => {
    const data = await live.lens(from, Math.min(width, total - from));
    return (body) => lensView(body, { ...data, words: words(tokens.text), width }, live);
  });
}

/** What is asked about the chosen position. */
function showNext(signal) {
  const { prompt, tokens, position, card } = state;
  const list = words(tokens.text);
  const stack = card.stacks[0];
  const attribution = (whose) => ask("attribution", { prompt, whose: { ...whose, position } }, signal);
  const effect = (edits) => ask("effect", { prompt, edits, position }, signal);
  const first = panels.attribution.fill(async () => {
    const shown = await attribution({});
    const { cells } = await ask("lens", { prompt, from: position, count: 1 }, signal);
    const data = { words: list, guesses: cells.at(-1)[0], layers: stack.layers, shown };
    return (body) => attributionView(body, data, { attribution });
  });
  const second = panels.effect.fill(async () => {
    const data = { words: list, prompt, stacks: card.stacks, position, edits: [], shown: await effect([]) };
    return (body) => effectView(body, data, { effect });
  });
  return Promise.all([first, second]);
}

function choose(position) {
  state.position = position;
  say(`position ${position}: ${visible(state.tokens.text[position].text)}`);
  const { signal } = state.stop;
  showNext(signal);
  showLens(signal);
}

/** A training run is looked at again every two seconds while the page is seen. */
async function watch() {
  let data;
  try {
    data = await ask("run");
  } catch (error) {
    if (error.reason === "missing") return;
  }
  if (data) {
    data.checkpoint = state.card.checkpoint;
    panels.gauges.section.hidden = false;
    if (panels.gauges.view) panels.gauges.view.update(data);
    else await panels.gauges.fill(async () => (body) => gaugesView(body, data, { open }));
  }
  setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", watch, { once: true }) : watch()), 2000);
}

async function open(name) {
  try {
    showCard(await ask("checkpoint", { name }));
    say(`loaded ${name}`);
    await look();
  } catch (error) {
    get("fault").textContent = error.message;
    get("fault").hidden = false;
  }
}

async function start() {
  themeSwitch(get("theme"));
  for (const name of Object.keys(CAPTIONS)) {
    panels[name] = new Panel(name);
    get("panels").append(panels[name].section);
  }
  panels.gauges.section.hidden = true;
  get("ask").addEventListener("submit", (e) => {
    e.preventDefault();
    look();
  });
  for (const id of ["text", "source"]) {
    get(id).addEventListener("keydown", (e) => e.key === "Enter" && (e.ctrlKey || e.metaKey) && look());
  }
  try {
    showCard(await ask("model"));
    get("text").value = state.card.text;
    get("source").value = state.card.source;
    watch();
    await look();
  } catch (error) {
    get("fault").textContent = error.message;
    get("fault").hidden = false;
  }
}

start();
