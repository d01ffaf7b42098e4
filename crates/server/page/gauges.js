// Figure: how it learns. One small curve for each number that the run writes down.
import { draw, el, everyFrame, number, say } from "./dom.js";
import { esc, svgPage } from "./picture.js";

const FIRST = ["loss", "validation_loss", "grad_norm", "lens_depth", "previous_token_score", "induction_score", "in_context_score", "repeated_loss"];
const W = 260;
const H = 96;

/** Shows a run. `data`: { series, checkpoints, step, checkpoint }; `update(data)` redraws while it trains;
 *  `live.open(name)` loads a checkpoint. */
export function gaugesView(element, data, live) {
  return new GaugesView(element, data, live);
}

class GaugesView {
  constructor(element, data, live) {
    Object.assign(this, { live, name: "gauges", charts: new Map() });
    this.grid = el("div", { class: "gauges" });
    this.empty = el("p", { class: "hint" }, "No numbers yet: they appear with the first step.");
    this.slider = el("input", { type: "range", min: "0", step: "1", "aria-label": "Checkpoint" });
    this.at = el("output", {});
    this.row = el("p", { class: "row slide" }, el("span", {}, "Model at"), this.slider, this.at);
    this.slider.addEventListener("input", () => this.name_());
    this.slider.addEventListener("change", () => live?.open(this.data.checkpoints[Number(this.slider.value)]));
    element.replaceChildren(this.row, this.empty, this.grid);
    this.update(data);
  }

  name_() {
    const name = this.data.checkpoints[Number(this.slider.value)] ?? "";
    this.at.textContent = name.replace(/^step-0*(?=\d)/, "step ");
    this.slider.setAttribute("aria-valuetext", this.at.textContent);
  }

  update(data) {
    this.data = data;
    const { checkpoints, series } = data;
    this.row.hidden = !this.live || checkpoints.length === 0;
    this.slider.max = String(Math.max(0, checkpoints.length - 1));
    if (document.activeElement !== this.slider) {
      const at = checkpoints.indexOf(data.checkpoint);
      this.slider.value = String(at < 0 ? checkpoints.length - 1 : at);
    }
    this.name_();
    this.empty.hidden = series.length > 0;
    for (const one of this.ordered()) {
      if (!this.charts.has(one.name)) {
        const chart = new Chart(one.name);
        this.charts.set(one.name, chart);
        this.grid.append(chart.figure);
      }
      this.charts.get(one.name).update(one);
    }
  }

  ordered() {
    const rank = (s) => (FIRST.includes(s.name) ? FIRST.indexOf(s.name) : FIRST.length);
    return this.data.series.filter((s) => s.name !== "tokens").sort((a, b) => rank(a) - rank(b));
  }

  title() {
    return `Training, up to step ${this.data.step ?? 0}`;
  }

  async json() {
    return this.data;
  }

  async packed() {
    return this.data;
  }

  async svg() {
    let body = "";
    const all = this.ordered();
    all.forEach((s, i) => {
      const [x, y] = [16 + (i % 3) * (W + 40), 44 + Math.floor(i / 3) * (H + 60)];
      const { path } = scaled(s.points);
      body += `<g transform="translate(${x} ${y})"><text x="0" y="12" font-style="italic" font-family="Georgia, serif">${esc(words(s.name))}</text>` +
        `<text x="${W}" y="12" text-anchor="end">${number(s.points.at(-1)[1])}</text>` +
        `<g transform="translate(0 20)"><path d="${path}" fill="none" stroke="#1b3a80" stroke-width="1.5"/><line x1="0" x2="${W}" y1="${H}" y2="${H}" stroke="#1d2026" stroke-width="0.5"/></g></g>\n`;
    });
    return svgPage(32 + 3 * (W + 40), 60 + Math.ceil(all.length / 3) * (H + 60), this.title(), body);
  }
}

const words = (name) => name.replaceAll("_", " ");

/** Places of points in a chart. */
function scaled(points) {
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (v) => (x1 > x0 ? ((v - x0) / (x1 - x0)) * W : W / 2);
  const y = (v) => (y1 > y0 ? H - 3 - ((v - y0) / (y1 - y0)) * (H - 6) : H / 2);
  const path = points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
  return { x, y, path, low: y0, high: y1 };
}

/** One curve; a pointer or arrow keys walk along it. */
class Chart {
  constructor(name) {
    this.name = name;
    this.path = draw("path", { class: "curve" });
    this.dot = draw("circle", { r: 3.5, class: "dot" });
    this.svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: "0" },
      draw("line", { x1: 0, x2: W, y1: H - 0.5, y2: H - 0.5, class: "axis" }), this.path, this.dot);
    this.value = el("span", { class: "value" });
    this.foot = el("div", { class: "foot" });
    this.figure = el("figure", { class: "gauge" },
      el("figcaption", {}, el("span", {}, words(name)), this.value), this.svg, this.foot);
    this.at = null;
    const redraw = everyFrame(() => this.mark());
    this.svg.addEventListener("pointermove", (e) => {
      const x = (e.offsetX / this.svg.clientWidth) * W;
      const { points } = this.series;
      let best = 0;
      points.forEach((p, i) => {
        if (Math.abs(this.scale.x(p[0]) - x) < Math.abs(this.scale.x(points[best][0]) - x)) best = i;
      });
      this.at = best;
      redraw();
    });
    const leave = () => {
      this.at = null;
      redraw();
    };
    this.svg.addEventListener("pointerleave", leave);
    this.svg.addEventListener("blur", leave);
    this.svg.addEventListener("keydown", (e) => {
      const last = this.series.points.length - 1;
      const now = this.at ?? last;
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last, PageUp: now - 10, PageDown: now + 10 }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      this.at = Math.min(Math.max(to, 0), last);
      redraw();
      const [step, value] = this.series.points[this.at];
      say(`step ${step}: ${words(this.name)} ${number(value)}`);
    });
  }

  update(series) {
    this.series = series;
    this.scale = scaled(series.points);
    this.path.setAttribute("d", this.scale.path);
    const { low, high } = this.scale;
    const last = series.points.at(-1);
    this.svg.setAttribute("aria-label", `${words(this.name)}: ${series.count} values between ${number(low)} and ${number(high)}, at last ${number(last[1])} at step ${last[0]}`);
    this.mark();
  }

  mark() {
    const { points } = this.series;
    const at = Math.min(this.at ?? points.length - 1, points.length - 1);
    const [step, value] = points[at];
    this.dot.setAttribute("cx", this.scale.x(step));
    this.dot.setAttribute("cy", this.scale.y(value));
    this.value.textContent = number(value);
    this.foot.textContent = `step ${step} · ${number(this.scale.low)} to ${number(this.scale.high)}`;
  }
}
