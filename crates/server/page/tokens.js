// Figure: the text as the model reads it.
import { el, roving, visible } from "./dom.js";

/** More than this are shown on demand. */
const MOST = 400;

/** Shows tokens, and a source's where there is one; `pick(position)` is called for the chosen one. */
export function tokensView(element, { tokens, source = [], chosen }, pick) {
  let all = tokens.length <= MOST;
  const show = () => {
    const start = all ? 0 : tokens.length - MOST;
    const list = el("div", { class: "tokens", role: "listbox", "aria-label": "Tokens" });
    tokens.slice(start).forEach((token, i) => {
      const at = start + i;
      list.append(el("span", {
        class: token.text.includes("\n") ? "token line" : "token", role: "option", tabindex: at === chosen ? "0" : "-1",
        "aria-selected": String(at === chosen), title: `position ${at}, token ${token.id}`, "data-at": at,
      }, visible(token.text)));
    });
    const choose = (target) => {
      const one = target.closest(".token");
      if (!one || Number(one.dataset.at) === chosen) return;
      chosen = Number(one.dataset.at);
      for (const other of list.children) other.setAttribute("aria-selected", String(other === one));
      pick(chosen);
    };
    list.addEventListener("click", (e) => choose(e.target));
    list.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" && e.key !== " ") return;
      e.preventDefault();
      choose(e.target);
    });
    const more = all ? null : el("button", {
      type: "button", class: "small", onclick: () => {
        all = true;
        show();
      },
    }, `Show the ${start} before`);
    const note = el("p", { class: "hint" }, `${tokens.length} tokens. Choose one with a click, or with arrow keys and Enter.`);
    const other = source.slice(0, MOST).map((t, i) => el("span", { title: `position ${i}, token ${t.id}` }, visible(t.text)));
    const beside = source.length ? el("div", { class: "tokens source", "aria-label": "Tokens of the source", role: "group" }, el("i", {}, "source"), other) : null;
    element.replaceChildren(...[beside, more, list, note].filter(Boolean));
    roving(list, ".token", 1);
  };
  show();
}
