// Elements, numbers and words.

/** An element: `el("p", { class: "hint", onclick: f }, "text", child)`. */
export function el(tag, props = {}, ...kids) {
  const made = document.createElement(tag);
  set(made, props);
  made.append(...kids.flat().filter((k) => k !== null && k !== undefined));
  return made;
}

/** An element of a drawing. */
export function draw(tag, props = {}, ...kids) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(made, props);
  made.append(...kids.flat());
  return made;
}

function set(made, props) {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "style") for (const [k, v] of Object.entries(value)) made.style.setProperty(k, v);
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
}

/** Tells people who listen instead of looking. */
export function say(text) {
  const status = document.getElementById("status");
  if (status && status.textContent !== text) status.textContent = text;
}

/** Letters that are written from the right. */
const FROM_RIGHT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/** A token with its edges made visible: `·the`, `↵`; what is written from the right does not turn what is around it. */
export function visible(token) {
  if (FROM_RIGHT.test(token)) return `\u2068${shown(token)}\u2069`;
  return shown(token);
}

function shown(token) {
  const text = token.replaceAll("\n", "↵").replaceAll("\t", "→").replaceAll("\r", "←");
  const inner = text.trim();
  if (inner === "") return "·".repeat(text.length) || "∅";
  const lead = text.length - text.trimStart().length;
  const tail = text.length - text.trimEnd().length;
  return "·".repeat(lead) + inner + "·".repeat(tail);
}

/** At most `n` letters. */
export function short(text, n) {
  const letters = [...text];
  return letters.length > n ? letters.slice(0, n - 1).join("") + "…" : text;
}

/** 0.1234 as `12.3%`. */
export function percent(p) {
  const x = 100 * p;
  if (x === 0) return "0%";
  if (x < 0.01) return "<0.01%";
  return x.toFixed(x < 1 ? 2 : x < 99.95 ? 1 : 0) + "%";
}

/** A number in about four digits. */
export function number(x) {
  if (!Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return x.toExponential(2);
  return String(Number(x.toPrecision(4)));
}

/** With its sign. */
export function signed(x) {
  return (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2);
}

/** A select box with a label; `options` are [value, text]. */
export function choice(label, options, value, onchange) {
  const select = el("select", { onchange: () => onchange(select.value) });
  for (const [v, text] of options) select.append(el("option", { value: v }, text));
  select.value = value;
  return { box: el("label", { class: "choice" }, label, select), select };
}

/** Tab stops at one element of a group; arrow keys move in it. `columns` is how far up and down go. */
export function roving(group, selector, columns, onmove) {
  const all = () => [...group.querySelectorAll(selector)];
  const settle = (target) => {
    for (const one of all()) one.tabIndex = one === target ? 0 : -1;
  };
  const first = group.querySelector(`${selector}[tabindex="0"]`) ?? all()[0];
  settle(first);
  group.addEventListener("focusin", (e) => {
    const target = e.target.closest(selector);
    if (target) settle(target);
  });
  group.addEventListener("keydown", (e) => {
    const list = all();
    const at = list.indexOf(e.target.closest(selector));
    if (at < 0) return;
    const wide = typeof columns === "function" ? columns() : columns;
    const row = Math.floor(at / wide) * wide;
    const to = {
      ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - wide, ArrowDown: at + wide,
      // One column is a list: its ends are those of all.
      Home: wide === 1 ? 0 : row, End: (wide === 1 ? list.length : Math.min(row + wide, list.length)) - 1,
    }[e.key];
    if (to === undefined || !list[to]) return;
    e.preventDefault();
    list[to].focus();
    if (onmove) onmove(list[to]);
  });
}

/** At most once a frame. */
export function everyFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}
