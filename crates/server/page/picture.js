// Pictures to keep: SVG as text, and PNG drawn from it. Always dark on white: they go on paper.

export const SVG = "http://www.w3.org/2000/svg";

/** What XML cannot hold even when escaped: a picture with it would not open. */
const BANNED = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text inside SVG. */
export function esc(text) {
  return String(text).replaceAll(BANNED, "\ufffd").replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** A whole picture with its title. */
export function svgPage(width, height, title, body) {
  return `<svg xmlns="${SVG}" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12" fill="#1d2026">\n` +
    `<title>${esc(title)}</title>\n<rect width="100%" height="100%" fill="#ffffff"/>\n` +
    `<text x="16" y="24" font-family="Georgia, serif" font-size="15">${esc(title)}</text>\n${body}</svg>\n`;
}

/** Blue from white, as strong as `p`. */
export function paper(p) {
  const k = Math.sqrt(Math.min(Math.max(p, 0), 1));
  const mix = (a, b) => Math.round(a + (b - a) * k);
  return `rgb(${mix(255, 27)},${mix(255, 58)},${mix(255, 128)})`;
}

/** Rows with bars, as a picture; a bar starts at zero, which lies inside where values have both signs. */
export function barPicture(title, groups) {
  const all = groups.flatMap((g) => g.rows);
  const low = Math.min(0, ...all.map((r) => r.value));
  const high = Math.max(0, ...all.map((r) => r.value)) || 1;
  const [left, wide] = [150, 380];
  const x = (v) => left + ((v - low) / (high - low || 1)) * wide;
  let y = 44;
  let body = "";
  for (const group of groups) {
    body += `<text x="16" y="${y + 8}" font-family="Georgia, serif" font-style="italic">${esc(group.name)}</text>\n`;
    y += 18;
    for (const row of group.rows) {
      const [a, b] = [x(Math.min(0, row.value)), x(Math.max(0, row.value))];
      body += `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${esc(row.label)}</text>` +
        `<rect x="${a.toFixed(1)}" y="${y + 2}" width="${Math.max(b - a, 0.5).toFixed(1)}" height="12" fill="${row.value < 0 ? "#a8442a" : "#1b3a80"}"/>` +
        `<text x="${left + wide + 10}" y="${y + 12}">${esc(row.text)}</text>\n`;
      y += 18;
    }
    y += 12;
  }
  body += `<line x1="${x(0)}" x2="${x(0)}" y1="44" y2="${y - 8}" stroke="#1d2026" stroke-width="0.6"/>\n`;
  return svgPage(left + wide + 90, y + 8, title, body);
}

/** A PNG of an SVG, twice as large. */
export async function pngOf(svg) {
  const image = new Image();
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    await new Promise((done, failed) => {
      image.onload = done;
      image.onerror = () => failed(new Error("the picture could not be drawn"));
      image.src = url;
    });
    const canvas = document.createElement("canvas");
    const scale = Math.min(2, 8000 / Math.max(image.width, image.height));
    canvas.width = Math.ceil(image.width * scale);
    canvas.height = Math.ceil(image.height * scale);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Hands a file to the person. */
export function keep(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
