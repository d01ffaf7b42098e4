// What an exported page does: one view of the data that is written in it.
import { el } from "./dom.js";
import { setTheme } from "./colour.js";
import { attentionView } from "./attention.js";
import { lensView } from "./lens.js";
import { attributionView } from "./attribution.js";
import { effectView } from "./effect.js";
import { gaugesView } from "./gauges.js";

const all = {
  attention: attentionView, lens: lensView, attribution: attributionView, effect: effectView, gauges: gaugesView,
};
const { view, title, command, data } = JSON.parse(document.getElementById("data").textContent);
const body = el("div", {});
document.getElementById("main").append(
  el("section", { class: "panel" }, el("h1", {}, title), body,
    el("p", { class: "hint" }, "Made with pellucid; the same figure again: ", el("code", {}, command))));
setTheme("auto");
all[view](body, data);
