// The page on a model that somebody serves: its views must agree with each other, whatever the model.

/** Walks through a page; `t` has what look.mjs shares. */
export async function real(url, t) {
  const page = await t.open(url);
  await t.settled(page);
  const name = await t.text(page, "#title");
  console.log(`\n${name}: ${await t.text(page, "#facts")}`);
  const card = await page.evaluate(async () => (await fetch("/api/model")).json());
  await t.shot(page, `${name}-light`);
  await attention(page, card, t);
  const answers = await page.evaluate(() => Boolean(document.querySelector("[data-panel=effect] table.board")));
  if (answers) {
    await sums(page, card, t);
    await edits(page, card, t);
  } else t.check("no scores: said without alarm", (await page.$$(".body > .later")).length > 0);
  t.check("no figure failed", (await page.$$(".body > .fault:not([hidden])")).length === 0);
  await keyboard(page, t);
  await t.exports(page, name, card.command);
  await slider(page, t);
  await faults(page, card, t);
  await page.close();
  await t.sizes(url, name);
  // Enough heads and positions to be slow.
  if (card.context >= 1024 && card.stacks[0].layers * card.stacks[0].heads >= 100) await t.frames(url, `${name}-`);
}

/** Asks the server as the page does. */
const ask = (page, path, question) => page.evaluate(async (p, q) => {
  const prompt = { text: document.querySelector("#text").value, source: document.querySelector("#source").value };
  const body = JSON.stringify({ prompt, ...q });
  const reply = await fetch(`/api/${p}`, { method: "POST", headers: { "content-type": "application/json" }, body });
  if (p !== "tile") return reply.json();
  const bytes = await reply.arrayBuffer();
  return { size: [...new Uint32Array(bytes, 0, 2)], values: [...new Float32Array(bytes, 8)] };
}, path, question);

const near = (a, b, by) => Math.abs(a - b) <= by;

async function attention(page, card, t) {
  for (const { name, title, layers, heads, causal } of card.stacks) {
    let [fair, blind] = [true, true];
    for (const [layer, head] of [[0, 0], [layers - 1, heads - 1]]) {
      const { size: [rows, columns], values } = await ask(page, "tile", { at: { stack: name, layer, head }, piece: { level: 0, row: 0, column: 0 } });
      for (let q = 0; q < rows; q++) {
        const row = values.slice(q * columns, (q + 1) * columns);
        fair &&= near(row.reduce((a, b) => a + b), 1, 1e-4);
        blind &&= !causal || row.slice(q + 1).every((p) => p === 0);
      }
    }
    t.check(`${title}: rows share out 1${causal ? ", none looks ahead" : ""}`, fair && blind);
    if (card.stacks.length < 2) continue;
    await page.select("[data-panel=attention] .choice select", name);
    await t.settled(page);
    await t.shot(page, `${card.title}-${name}`);
  }
}

/** Lens, attribution and effect speak of one and the same answer. */
async function sums(page, card, t) {
  const position = Number(await page.$eval("[aria-selected=true].token", (e) => e.dataset.at));
  const { cells } = await ask(page, "lens", { from: position, count: 1 });
  const best = cells.at(-1)[0][0];
  const { rows, divergence } = await ask(page, "effect", { edits: [], position });
  t.check("the lens has a row for each depth", cells.length === card.stacks[0].layers + 1 && (await page.$$("table.lens tbody tr")).length === cells.length);
  t.check(`at the last depth it says what the model says: ${JSON.stringify(best.text)} ${best.probability.toFixed(4)}`,
    rows[0].id === best.id && near(rows[0].before, best.probability, 1e-4) && divergence < 1e-6);
  for (const layer of [0, card.stacks[0].layers - 1]) {
    const found = await ask(page, "attribution", { whose: { position, layer } });
    if (found.reason) {
      t.check(`no attribution, without alarm: ${found.message.split("\n")[0]}`, found.reason === "missing");
      break;
    }
    const sum = (parts) => parts.reduce((a, p) => a + p.value, 0);
    const inside = found.parts.filter((p) => p.layer === layer && !p.label.startsWith("MLP"));
    t.check(`parts add up to the logit: ${sum(found.parts).toFixed(4)}, ${found.token.logit.toFixed(4)}`,
      near(sum(found.parts), found.token.logit, 2e-3) && near(best.logit, found.token.logit, 2e-3) && found.token.id === best.id);
    t.check(`heads of layer ${layer} add up to its attention: ${sum(found.heads).toFixed(4)}, ${sum(inside).toFixed(4)}`, near(sum(found.heads), sum(inside), 2e-3));
  }
}

const panel = "[data-panel=effect]";
const result = (page) => page.$eval(`${panel} .pair`, (e) => e.textContent);

/** Clicks a component and waits for what comes. */
async function click(page, selector) {
  const asked = page.waitForResponse((r) => r.url().endsWith("/api/effect"));
  await page.$eval(selector, (e) => e.click());
  const shown = await (await asked).json();
  await new Promise((done) => setTimeout(done, 100));
  return shown;
}

async function edits(page, card, t) {
  const plain = await result(page);
  const undo = () => click(page, `${panel} .edits button`);
  const [first] = card.stacks;
  for (const [i, stack] of card.stacks.entries()) {
    if (i) await page.select(`${panel} .choice:last-child select`, String(i));
    const { rows, divergence } = await click(page, `${panel} button.part.one`);
    const zero = await result(page);
    t.check(`silenced in “${stack.title}”: ${divergence.toExponential(2)} nats away`, rows.some((r) => !near(r.before, r.after, 1e-6)));
    if (!i) await t.shot(page, `${card.title}-edited`);
    await undo();
    t.check("undone: as before", (await result(page)) === plain);
    for (const [factor, like, what] of [["0", zero, "silenced"], ["1", plain, "as it was"]]) {
      await page.select(`${panel} .choice select`, "scale");
      await page.$eval(`${panel} input[type=number]`, (e, v) => (e.value = v), factor);
      await click(page, `${panel} button.part.one`);
      const scaled = await result(page);
      t.check(`times ${factor}: ${what}`, (like === plain ? scaled.replace("After 1 edit: 0.000 nats away", "After: nothing is edited") : scaled) === like);
      await undo();
    }
    await page.select(`${panel} .choice select`, "patch");
    await click(page, `${panel} button.part:not(.one)`);
    t.check("patched from its own text: nothing changes", (await result(page)).includes("0.000 nats"));
    await undo();
    await page.select(`${panel} .choice select`, "zero");
  }
  if (card.stacks.length > 1) await page.select(`${panel} .choice:last-child select`, "0");
  t.check(`the board begins with the deepest layer, ${first.layers - 1}`, (await t.text(page, `${panel} table.board th`)) === `layer ${first.layers - 1}`);
}

async function keyboard(page, t) {
  await page.focus("canvas.overview");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  t.check("arrow keys choose a head", /layer \d+, head 1/.test(await t.text(page, "#status")));
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowRight");
  t.check("cells are read out", /looks at .*: /.test(await t.text(page, "#status")));
  await page.focus(".token[tabindex='0']");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  const asked = page.waitForResponse((r) => r.url().endsWith("/api/lens"));
  await page.keyboard.press("Enter");
  await asked;
  await t.settled(page);
  const place = await page.$eval(`${panel} .choice:nth-of-type(3) option:last-child`, (e) => e.textContent).catch(() => "only 1");
  t.check(`another token is chosen by keys: ${place}`, (await page.$eval("[aria-selected=true].token", (e) => e.dataset.at)) === "1" && place.startsWith("only 1"));
}

async function slider(page, t) {
  const names = await page.evaluate(async () => (await (await fetch("/api/run")).json()).checkpoints ?? []);
  if (names.length < 2) return;
  await page.focus("[data-panel=gauges] input");
  for (const [key, want] of [["Home", names[0]], ["End", names.at(-1)]]) {
    await page.keyboard.press(key);
    await page.waitForFunction((n) => document.querySelector("#facts").textContent.includes(n), {}, want);
    await t.settled(page);
    t.check(`the slider opens ${want}`, (await page.$eval("#fault", (e) => e.hidden)));
    await t.shot(page, `${await t.text(page, "#title")}-${key}`);
  }
}

/** Texts that cannot be read say why, and the page goes on. */
async function faults(page, card, t) {
  const good = await page.$eval("#text", (e) => e.value);
  const say = async (text) => {
    await page.$eval("#text", (e, v) => (e.value = v), text);
    await page.click("button.main");
    await page.waitForFunction(() => document.querySelector("#busy").hidden);
    return page.$eval("#fault", (e) => (e.hidden ? "" : e.textContent));
  };
  const head = (text) => text.split("\n")[0];
  const empty = await say("");
  // Some models read a text of no words: its frame.
  console.log(`       nothing: ${empty ? head(empty) : "is read"}`);
  const long = await say(`${good} `.repeat(card.context));
  t.check(`too long: ${head(long)}`, /tokens|context/.test(long));
  const odd = await say("☃ \u202e ẞ");
  console.log(`       odd characters: ${odd ? head(odd) : "are read"}`);
  t.check("the page goes on", (await say(good)) === "");
  await t.settled(page);
}
