// The page in a real browser, over a made-up model or those that are served at given addresses. See README.md.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { existsSync, mkdirSync, mkdtempSync, appendFileSync, writeFileSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { real } from "./real.mjs";

const out = process.argv[2] ?? mkdtempSync(join(tmpdir(), "pellucid-look-"));
const browserPath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/google-chrome"].find(existsSync);
let puppeteer;
try {
  const require = createRequire(join(process.env.NODE_FOLDER ?? process.cwd(), "x.js"));
  puppeteer = (await import(pathToFileURL(require.resolve("puppeteer-core")))).default;
} catch { /* said below */ }
if (!browserPath || !puppeteer) {
  console.log(`SKIPPED: no ${browserPath ? "puppeteer-core" : "chromium"} (see crates/server/browser/README.md)`);
  process.exit(0);
}
mkdirSync(out, { recursive: true });

let failures = 0;
const check = (what, is) => {
  console.log(`${is ? "ok    " : "FAILED"} ${what}`);
  if (!is) failures += 1;
};

/** Starts the made-up model; gives its address and a way to end it. */
function serve(...args) {
  const own = process.env.FAKE;
  const cargo = ["run", "-q", "--release", "-p", "pellucid-server", "--example", "fake", "--"];
  const child = spawn(own ?? "cargo", own ? args : [...cargo, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  servers.push(child);
  return new Promise((done, failed) => {
    child.on("exit", () => failed(new Error("the server ended")));
    child.stdout.once("data", (text) => done({ url: String(text).trim(), end: () => child.kill() }));
  });
}

const servers = [];
const browser = await puppeteer.launch({ executablePath: browserPath, args: ["--no-sandbox", "--font-render-hinting=none"] });
const noise = [];

async function open(url, { width = 1180, height = 900, dark = false, calm = false } = {}) {
  const page = await browser.newPage();
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: dark ? "dark" : "light" },
    { name: "prefers-reduced-motion", value: calm ? "reduce" : "no-preference" },
  ]);
  page.on("pageerror", (e) => noise.push(e.message));
  page.on("console", (m) => m.type() === "error" && !m.text().includes("status of 400") && !m.text().includes("status of 501") && noise.push(m.text()));
  page.on("request", (r) => !r.url().startsWith(url.split("/").slice(0, 3).join("/")) && !/^(data|blob|file):/.test(r.url()) && noise.push(`outside: ${r.url()}`));
  const until = page.waitForFunction.bind(page);
  // By the clock: a page that is not in front draws no frames.
  page.waitForFunction = (what, options, ...args) => until(what, { polling: 100, ...options }, ...args);
  await page.goto(url);
  await page.bringToFront();
  return page;
}

const settled = (page) => page.waitForFunction(() =>
  document.querySelector("#busy")?.hidden && !document.querySelector("[aria-busy]") && document.querySelector("table.plain tr"));
const shot = (page, name) => page.screenshot({ path: join(out, `${name}.png`), fullPage: true });
const text = (page, selector) => page.$eval(selector, (e) => e.textContent);
const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

async function small() {
  const run = mkdtempSync(join(tmpdir(), "pellucid-run-"));
  const metrics = join(run, "metrics.jsonl");
  const line = (step) => JSON.stringify({ step, loss: 2 + 3 * Math.exp(-step / 120) + 0.05 * Math.sin(step), grad_norm: 1 + 0.3 * Math.sin(step / 9), lr: 1e-3, tokens: 100 * step, induction_score: 1 / (1 + Math.exp((200 - step) / 20)) }) + "\n";
  writeFileSync(metrics, Array.from({ length: 400 }, (_, i) => line(i)).join(""));
  for (const step of ["00000100", "00000200", "00000399"]) mkdirSync(join(run, `step-${step}`));
  const server = await serve("4", "6", run);
  const page = await open(server.url);
  await settled(page);
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  console.log(`first contentful paint: ${paint?.toFixed(0)} ms`);
  check("first paint under a second", paint < 1000);
  await shot(page, "light");

  // The keyboard alone: heads, cells, row table.
  await page.focus("canvas.overview");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  check("arrow keys choose a head", (await text(page, "#status")) === "layer 1, head 1");
  await page.keyboard.press("Enter");
  check("Enter goes to the large picture", await page.evaluate(() => document.activeElement.className === "map"));
  await page.keyboard.press("ArrowUp");
  await page.waitForFunction(() => document.querySelector("table.plain caption")?.textContent.includes("(10)"));
  await page.keyboard.press("ArrowRight");
  check("cells are read out", /looks at .*: \d/.test(await text(page, "#status")));
  await page.keyboard.press("Escape");
  check("Escape leaves the cell", (await page.$eval("[data-panel=attention] .right .readout", (e) => e.textContent.trim())) === "");

  // The lens: roving focus and ten guesses.
  await page.focus("table.lens td[tabindex='0']");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  check("a cell gives its ten best", (await page.$$("[data-panel=lens] .detail tr")).length === 10);

  // Heads of a layer by clicking a component; an edit changes the next token.
  await page.$$eval("[data-panel=attribution] table.bars button", (all) => all[2].click());
  await page.waitForFunction(() => document.querySelectorAll("[data-panel=attribution] table.bars").length === 2);
  check("a component opens its heads", (await page.$$("[data-panel=attribution] table.bars:nth-child(2) tr")).length === 6);
  const before = await text(page, "[data-panel=effect] table.bars:nth-child(2)");
  await page.click("[data-panel=effect] button.part.one");
  await page.waitForFunction((old) => document.querySelector("[data-panel=effect] table.bars:nth-child(2)")?.textContent !== old, {}, before);
  check("an edit is listed", (await text(page, "[data-panel=effect] .edits")).includes("head 0 of layer 3 is zero"));
  await page.select("[data-panel=effect] .choice select", "patch");
  await page.$eval("[data-panel=effect] textarea", (e) => (e.value = "too short"));
  await page.click("[data-panel=effect] button.part:not(.one)");
  await page.waitForFunction(() => !document.querySelector("[data-panel=effect] .fault").hidden);
  check("a bad patch says why", (await text(page, "[data-panel=effect] .fault")).includes("tokens"));
  await page.$$eval("[data-panel=effect] .edits button", (all) => all.at(-1).click());
  await page.waitForFunction(() => document.querySelector("[data-panel=effect] .fault").hidden);

  // The run goes on while we look; the slider opens a checkpoint.
  appendFileSync(metrics, line(400) + line(401));
  await page.waitForFunction(() => document.querySelector(".gauge .foot")?.textContent.startsWith("step 401"), { timeout: 6000 });
  check("gauges follow the run", true);
  await page.focus("[data-panel=gauges] input");
  await page.keyboard.press("Home");
  await page.waitForFunction(() => document.querySelector("#facts").textContent.includes("step-00000100"));
  check("the slider opens a checkpoint", true);
  await settled(page);

  // Errors, then every export.
  await page.$eval("#text", (e) => (e.value = ""));
  await page.click("button.main");
  await page.waitForFunction(() => !document.querySelector("#fault").hidden);
  check("an empty text says why", (await text(page, "#fault")).includes("tokens"));
  await page.$eval("#text", (e) => (e.value = "The river </script> was\n'quiet' and blue"));
  await page.click("button.main");
  await settled(page);
  await exports(page, null, "pellucid look made-up --text 'The river </script> was");
  const data = JSON.parse(readFileSync(join(out, "pellucid-attention.json")));
  const sums = data.data.weights.map((row) => row.reduce((a, b) => a + b));
  check("exported rows share out 1", sums.every((s) => Math.abs(s - 1) < 1e-4));
  await page.close();

  await sizes(server.url);
  server.end();
}

/** In the dark, and on a phone. */
async function sizes(url, name) {
  const called = (what) => (name ? `${name}-${what}` : what);
  const night = await open(url, { dark: true });
  await settled(night);
  await shot(night, called("dark"));
  await night.select("#theme", "light");
  check("the switch overrules the system", (await night.evaluate(() => getComputedStyle(document.body).backgroundColor)) === "rgb(251, 250, 246)");
  await night.close();
  const narrow = await open(url, { width: 400, height: 800, calm: true });
  await settled(narrow);
  await shot(narrow, called("narrow"));
  check("nothing is wider than 400 px", (await wide(narrow)) <= 0);
  check("calm people see no transitions", (await narrow.evaluate(() => getComputedStyle(document.querySelector("button")).transitionDuration)) === "0s");
  await named(narrow);
  await narrow.close();
}

/** Everything that can be focused has a name. */
async function named(page) {
  const bare = await page.evaluate(() => [...document.querySelectorAll("button, select, textarea, input, canvas, [tabindex='0']")].filter((e) =>
    !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML.slice(0, 80)));
  check(`all controls have names ${bare}`, bare.length === 0);
}

/** Keeps what a menu saves, by catching the download; opens pages from disk. */
async function exports(page, model, command) {
  const called = (name) => (model ? `${model}-${name}` : name);
  await page.evaluate(() => {
    window.saved = {};
    HTMLAnchorElement.prototype.click = function () {
      const [name, href] = [this.download, this.href];
      window.saved[name] = href;
    };
    const made = URL.createObjectURL;
    window.blobs = {};
    URL.createObjectURL = (blob) => {
      const at = made(blob);
      window.blobs[at] = blob;
      return at;
    };
  });
  for (const panel of ["gauges", "attention", "lens", "attribution", "effect"]) {
    // A figure that this model has not is not saved.
    if (await page.$eval(`[data-panel=${panel}]`, (e) => e.hidden || e.querySelector(".body > .later"))) continue;
    for (const [i, kind] of ["html", "svg", "png", "json"].entries()) {
      const name = `pellucid-${panel}.${kind}`;
      await page.$eval(`[data-panel=${panel}] .menu`, (e) => (e.open = true));
      await page.$$eval(`[data-panel=${panel}] .menu button`, (all, at) => all[at].click(), i);
      await page.waitForFunction((n) => window.saved[n], { timeout: 20000 }, name).catch(() => null);
      const bytes = await page.evaluate(async (n) => {
        const blob = window.blobs[window.saved[n]];
        if (!blob) return null;
        const all = new Uint8Array(await blob.arrayBuffer());
        let s = "";
        for (const b of all) s += String.fromCharCode(b);
        return btoa(s);
      }, name);
      check(`${name} is saved`, bytes !== null && bytes.length > 300);
      if (bytes) writeFileSync(join(out, called(name)), Buffer.from(bytes, "base64"));
    }
    const saved = join(out, called(`pellucid-${panel}.html`));
    if (!existsSync(saved)) continue;
    const still = await open(pathToFileURL(saved).href);
    await new Promise((done) => setTimeout(done, 400));
    const body = await text(still, "main");
    check(`${panel} opens from disk with its command`, body.includes(command));
    await shot(still, called(`still-${panel}`));
    await still.close();
  }
}

async function two() {
  const server = await serve("2", "4", "source");
  const page = await open(server.url);
  await settled(page);
  await page.select("[data-panel=attention] .choice select", "cross");
  await page.waitForFunction(() => document.querySelector("table.plain caption")?.textContent.includes("where “"));
  await new Promise((done) => setTimeout(done, 500));
  await shot(page, "cross");
  check("the source is asked for", !(await page.$eval("#source-label", (e) => e.hidden)));
  server.end();
}

/** 12 × 12 heads. */
async function large() {
  const server = await serve("12", "12");
  await frames(server.url, "");
  server.end();
}

/** 1,024 tokens: frames while a hand moves over both pictures. */
async function frames(url, name) {
  const page = await open(url);
  await settled(page);
  const words = Array.from({ length: 1024 }, (_, i) => ["sky", "river", "quiet", "blue", "the", "and"][(i * 7 + (i >> 3)) % 6]).join(" ");
  await page.$eval("#text", (e, w) => (e.value = w), words);
  await page.click("button.main");
  await new Promise((done) => setTimeout(done, 300));
  await page.waitForFunction(() => document.querySelector("table.plain caption")?.textContent.includes("1023"), { timeout: 60000 });
  await page.waitForFunction(() => !document.querySelector("canvas[aria-busy]"), { timeout: 120000 });
  await shot(page, `${name}large`);
  check("cells are no elements", (await page.evaluate(() => document.querySelectorAll("*").length)) < 3000);
  for (const [what, selector, zoom] of [["overview, hovering", "canvas.overview", 0], ["map, hovering", "canvas.map", 0], ["map, panning enlarged", "canvas.map", 4]]) {
    const before = await page.metrics();
    const gaps = await page.evaluate(measure, selector, zoom);
    const after = await page.metrics();
    // 150 frames: 30 to settle, 120 measured.
    const each = (key) => ((1000 * (after[key] - before[key])) / 150).toFixed(2);
    console.log(`${what}: ${gaps}; a frame takes ${each("ScriptDuration")} ms of script, ${each("TaskDuration")} ms of the main thread`);
  }
  await shot(page, `${name}large-zoomed`);
  await page.close();
}

/** In the page: moves for two seconds, and times the frames. */
async function measure(selector, zoom) {
  const canvas = document.querySelector(selector);
  canvas.scrollIntoView({ block: "center" });
  canvas.focus();
  for (let i = 0; i < zoom; i++) canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "+", bubbles: true }));
  const box = canvas.getBoundingClientRect();
  const send = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type, { clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true }));
  canvas.setPointerCapture = () => {};
  const frame = () => new Promise(requestAnimationFrame);
  for (let i = 0; i < 30; i++) await frame();
  if (zoom) send("pointerdown", box.width * 0.6, box.height * 0.6);
  const gaps = [];
  let last = await frame();
  for (let i = 0; i < 120; i++) {
    const angle = i / 14;
    send("pointermove", box.width * (0.55 + 0.35 * Math.cos(angle)), box.height * (0.55 + 0.35 * Math.sin(angle)));
    const now = await frame();
    gaps.push(now - last);
    last = now;
  }
  if (zoom) send("pointerup", box.width * 0.6, box.height * 0.6);
  gaps.sort((a, b) => a - b);
  const at = (q) => gaps[Math.floor(q * (gaps.length - 1))].toFixed(1);
  return `median ${at(0.5)} ms, 95th ${at(0.95)} ms, worst ${at(1)} ms between frames`;
}

const addresses = process.argv.slice(3);
const shared = { check, open, settled, shot, text, exports, sizes, frames };
try {
  for (const url of addresses) await real(url, shared);
  if (!addresses.length) for (const part of [small, two, large]) await part();
} finally {
  servers.forEach((child) => child.kill());
  await browser.close();
}
check(`no errors in the console, nothing from outside ${[...new Set(noise)].join(" | ")}`, noise.length === 0);
console.log(`pictures: ${out}`);
process.exit(failures ? 1 : 0);
