// Bars in a table: the label is its row's heading, the number stands beside the bar.
import { el } from "./dom.js";

/** A table of `rows`: { label, value, text, title, chosen, onclick }. With both signs zero lies inside. */
export function bars(caption, rows, range) {
  const low = Math.min(0, range?.[0] ?? Math.min(...rows.map((r) => r.value)));
  const high = Math.max(0, range?.[1] ?? Math.max(...rows.map((r) => r.value)));
  const wide = high - low || 1;
  const share = (x) => `${(100 * x) / wide}%`;
  const line = (row) => {
    const name = row.onclick
      ? el("button", { type: "button", class: "plain", "aria-pressed": row.chosen ? "true" : "false", onclick: row.onclick }, row.label)
      : row.label;
    const [from, to] = [Math.min(0, row.value), Math.max(0, row.value)];
    const bar = el("span", {
      class: row.value < 0 ? "bar minus" : "bar", style: { "margin-left": share(from - low), width: share(to - from) },
    });
    return el("tr", { class: row.chosen ? "chosen" : null, title: row.title ?? null },
      el("th", { scope: "row" }, name), el("td", { class: "track" }, bar), el("td", { class: "number" }, row.text));
  };
  return el("table", { class: "bars" }, el("caption", {}, caption), el("tbody", {}, rows.map(line)));
}
