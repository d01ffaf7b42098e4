// The Export menu of a figure.
import { el, say } from "./dom.js";
import { keep, pngOf } from "./picture.js";
import { askFile } from "./api.js";

/** A menu for `view()`, the figure that is shown now; `command()` reproduces it. */
export function saveMenu(view, command) {
  const status = el("span", { class: "hint" });
  const way = (text, kind, make) => el("button", {
    type: "button", onclick: async () => {
      const shown = view();
      if (!shown) return;
      status.textContent = "…";
      try {
        keep(`pellucid-${shown.name}.${kind}`, await make(shown));
        status.textContent = "";
        say(`${text} saved`);
      } catch (error) {
        status.textContent = error.message;
      }
      menu.open = false;
      menu.querySelector("summary").focus();
    },
  }, text);
  const menu = el("details", { class: "menu" }, el("summary", {}, "Export"), el("div", { class: "items" },
    way("Page (HTML)", "html", async (v) => askFile("export", { view: v.name, title: v.title(), command: command(), data: await v.packed() })),
    way("Picture (SVG)", "svg", async (v) => new Blob([await v.svg()], { type: "image/svg+xml" })),
    way("Picture (PNG)", "png", async (v) => pngOf(await v.svg())),
    way("Data (JSON)", "json", async (v) => new Blob([JSON.stringify({ title: v.title(), command: command(), data: await v.json() }, null, 1)], { type: "application/json" }))),
  status);
  menu.addEventListener("keydown", (e) => {
    if (e.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (e) => {
    if (menu.open && !menu.contains(e.target)) menu.open = false;
  });
  return menu;
}
