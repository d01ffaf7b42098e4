// Questions to the server. A busy model is asked again; what was asked for an older text is dropped.

/** An answer that is no answer: `reason` is input, missing, busy or broken. */
export class Refused extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

async function send(path, question, signal) {
  for (let tries = 0; ; tries++) {
    let reply;
    try {
      reply = await fetch(`/api/${path}`, question === undefined ? { signal } : {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(question), signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("gone", "pellucid no longer answers: is it still running?");
    }
    if (reply.ok) return reply;
    const fault = reply.headers.get("content-type") === "application/json" ? await reply.json() : { message: await reply.text() };
    if (fault.reason !== "busy" || tries >= 8) throw new Refused(fault.reason ?? "broken", fault.message || `status ${reply.status}`);
    await wait(150 * 1.6 ** tries);
  }
}

export const ask = async (path, question, signal) => (await send(path, question, signal)).json();

/** A page to keep. */
export const askFile = async (path, question) => (await send(path, question)).blob();

/** Thumbnails of a layer's heads. */
export async function askThumbs(question, signal) {
  const bytes = await (await send("thumbs", question, signal)).arrayBuffer();
  const [heads, rows, columns] = new Uint32Array(bytes, 0, 3);
  return { heads, rows, columns, bytes: new Uint8Array(bytes, 12) };
}

/** A tile of a head's pattern. */
export async function askTile(question, signal) {
  const bytes = await (await send("tile", question, signal)).arrayBuffer();
  const [rows, columns] = new Uint32Array(bytes, 0, 2);
  return { rows, columns, values: new Float32Array(bytes, 8) };
}
