// Light and dark, and the colours of weights.

let listeners = [];
let table = null;
const inks = new Map();

/** Calls `work` whenever light and dark change, as long as `node` is on the page. */
export function onTheme(node, work) {
  listeners = listeners.filter((l) => l.node.isConnected);
  listeners.push({ node, work });
}

/** A colour of the style sheet. */
export function ink(name) {
  if (!inks.has(name)) inks.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return inks.get(name);
}

function channels(name) {
  const hex = ink(name).replace("#", "");
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** 256 colours, none to all of the attention, by the square root of the weight: as 32-bit pixels. */
export function ramp() {
  if (table) return table;
  const stops = ["map-none", "map-some", "map-much", "map-all"].map(channels);
  table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const k = Math.min(Math.floor(at), stops.length - 2);
    const [r, g, b] = stops[k].map((c, j) => Math.round(c + (stops[k + 1][j] - c) * (at - k)));
    table[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

/** The ramp's colour of a weight, for style sheets. */
export function shade(p) {
  const c = ramp()[Math.round(255 * Math.sqrt(Math.min(Math.max(p, 0), 1)))];
  return `rgb(${c & 255} ${(c >> 8) & 255} ${(c >> 16) & 255})`;
}

/** Black or white, whichever is read better on a shade. */
export function onShade(p) {
  const c = ramp()[Math.round(255 * Math.sqrt(Math.min(Math.max(p, 0), 1)))];
  const part = (x) => {
    const s = x / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  };
  const light = 0.2126 * part(c & 255) + 0.7152 * part((c >> 8) & 255) + 0.0722 * part((c >> 16) & 255);
  return light > 0.18 ? "#16181d" : "#ffffff";
}

function changed() {
  table = null;
  inks.clear();
  for (const { node, work } of listeners) if (node.isConnected) work();
}

/** `auto`, `light` or `dark`; kept for the next visit where the browser allows it. */
export function setTheme(name) {
  const root = document.documentElement;
  if (name === "auto") delete root.dataset.theme;
  else root.dataset.theme = name;
  try {
    localStorage.setItem("theme", name);
  } catch { /* a page from disk may keep nothing */ }
  changed();
}

/** Binds the switch. */
export function themeSwitch(select) {
  let kept = "auto";
  try {
    kept = localStorage.getItem("theme") ?? "auto";
  } catch { /* as above */ }
  select.value = kept;
  setTheme(select.value || "auto");
  select.addEventListener("change", () => setTheme(select.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
