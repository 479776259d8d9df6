// How one observation looks: an image, a table of columns, or a curve.

import { cell } from "./cells";
import { type Data, header } from "./data";
import { make, makeSvg, show } from "./dom";

export interface View {
  element: HTMLElement;
  /** Shows x, and behind it another of its kind where the view can hold two. */
  show(x: Float32Array, behind?: Float32Array): void;
}

export function createView(data: Data, label: string): View {
  const { view } = data;
  if (view.kind === "image") return createImage(data, label);
  return view.kind === "table" ? createTable(data, label) : createCurve(data, label);
}

/** A small picture without words, for strips. */
export function thumbnail(data: Data, x: Float32Array): Element {
  if (data.view.kind === "image") {
    const canvas = make("canvas", { className: "pixels" });
    paint(data, canvas, x);
    return canvas;
  }
  const { low, high } = data.features;
  const [bottom, top] = range(low, high, x);
  const shares =
    data.view.kind === "channels"
      ? byChannel(data, data.view, x)
      : data.view.kind === "table"
        ? x.map((v, i) => (v - low[i]) / (high[i] - low[i] || 1))
        : x.map((v) => (v - bottom) / (top - bottom));
  const svg = makeSvg("svg", { class: "spark", viewBox: "-2 -4 104 48", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(makeSvg("path", { class: "line", d: path(shares.map((s) => Math.min(1.1, Math.max(-0.1, s))), 100, 40) }));
  return svg;
}

/** The absolute difference of two images, white where it is as large as the data's whole range. */
export function createDifference(data: Data, label: string): View {
  const canvas = make("canvas", { className: "pixels" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const [low] = imageRange(data);
  return { element: canvas, show: (x, other) => paint(data, canvas, x.map((v, i) => low + Math.abs(v - (other?.[i] ?? v)))) };
}

function createImage(data: Data, label: string): View {
  const canvas = make("canvas", { className: "pixels" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return { element: canvas, show: (x) => paint(data, canvas, x) };
}

/** The values that black and white stand for. */
export function imageRange(data: Data): [number, number] {
  if (data.dtype === "uint8") return [0, 255];
  const { low, high } = data.features;
  return [low.reduce((a, b) => Math.min(a, b)), high.reduce((a, b) => Math.max(a, b))];
}

function paint(data: Data, canvas: HTMLCanvasElement, x: Float32Array): void {
  if (data.view.kind !== "image") return;
  const { width, height, channels } = data.view;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.aspectRatio = `${width} / ${height}`;
  }
  const [low, high] = imageRange(data);
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      const value = x[i * channels + (channels === 3 ? c : 0)];
      pixels.data[4 * i + c] = (255 * (value - low)) / (high - low); // the array clamps
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
}

function createTable(data: Data, label: string): View {
  const names = header(data, "x");
  const { low, high, usual_low, usual_high } = data.features;
  const body = make("tbody");
  const rows = names.map((name, i) => {
    const share = (value: number) => 100 * Math.min(1, Math.max(0, (value - low[i]) / (high[i] - low[i] || 1)));
    const band = make("span", { className: "band" });
    band.style.left = `${share(usual_low[i])}%`;
    band.style.right = `${100 - share(usual_high[i])}%`;
    const marks = [make("span", { className: "mark behind", hidden: true }), make("span", { className: "mark" })];
    const track = make("div", { className: "track", ariaHidden: "true" }, band, ...marks);
    const value = make("td", { className: "value" });
    body.append(make("tr", {}, make("th", { scope: "row", textContent: name }), value, make("td", {}, track)));
    return { share, marks, value, low: low[i], high: high[i] };
  });
  const table = make("table", { className: "columns" }, make("caption", { className: "unseen", textContent: label }), body);
  const key = make("p", { className: "quiet" }, `Bands hold nine of ten ${pointsOf(data)}; an arrow is beyond all of them.`);
  return {
    element: make("div", {}, make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: label }, table), key),
    show(x, behind) {
      rows.forEach((row, i) => {
        row.value.replaceChildren(cell(data, i, x[i]));
        row.marks[1].style.left = `${row.share(x[i])}%`;
        row.marks[1].classList.toggle("below", x[i] < row.low);
        row.marks[1].classList.toggle("above", x[i] > row.high);
        row.marks[0].hidden = behind === undefined;
        if (behind) {
          row.marks[0].style.left = `${row.share(behind[i])}%`;
          row.value.append(" → ", cell(data, i, behind[i]));
        }
      });
    },
  };
}

const WIDTH = 600;
const HEIGHT = 300;

function createCurve(data: Data, label: string): View {
  const { low, high, usual_low, usual_high } = data.features;
  const svg = makeSvg("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", label);
  const band = makeSvg("path", { class: "band" });
  const line = makeSvg("path", { class: "line" });
  const other = makeSvg("path", { class: "line behind" });
  svg.append(band, other, line);
  const [top, bottom] = [make("span"), make("span")];
  const frame = make("div", { className: "plot" }, make("div", { className: "ticks", ariaHidden: "true" }, top, bottom), svg);
  const channels = data.view.kind === "channels" ? data.view : null;
  const marks = channels ? channels.names : ["0", `${data.size - 1}`];
  const across = make("div", { className: "ticks across" }, ...marks.map((mark) => make("span", {}, mark)));
  const words = channels ? ` Channels stand one after the other, ${channels.length} steps each, each on its own scale.` : "";
  const key = make("p", { className: "quiet" }, `The band holds nine of ten ${pointsOf(data)}.${words}`);
  const element = make("div", {}, frame, across, key);
  return {
    element,
    show(x, behind) {
      const [least, most] = range(low, high, behind ? Float32Array.from([...x, ...behind]) : x);
      const share = (values: Float32Array) =>
        channels
          ? byChannel(data, channels, values).map((v) => Math.min(1, Math.max(0, v)))
          : values.map((v) => (v - least) / (most - least));
      const upper = path(share(usual_high), WIDTH, HEIGHT);
      const lower = path(share(usual_low).reverse(), WIDTH, HEIGHT, true).replace("M", "L");
      band.setAttribute("d", `${upper}${lower}Z`);
      line.setAttribute("d", path(share(x), WIDTH, HEIGHT));
      other.setAttribute("d", behind ? path(share(behind), WIDTH, HEIGHT) : "");
      top.textContent = channels ? "most" : show(most);
      bottom.textContent = channels ? "least" : show(least);
    },
  };
}

/** Steps of each channel after those of the one before, as shares of the range that the channel has in the data. */
function byChannel(data: Data, view: { names: string[]; length: number }, x: Float32Array): Float32Array {
  const count = view.names.length;
  const { low, high } = data.features;
  const shares = new Float32Array(x.length);
  for (let c = 0; c < count; c++) {
    let [least, most] = [Infinity, -Infinity];
    for (let t = 0; t < view.length; t++) {
      least = Math.min(least, low[t * count + c]);
      most = Math.max(most, high[t * count + c]);
    }
    for (let t = 0; t < view.length; t++) shares[c * view.length + t] = (x[t * count + c] - least) / (most - least || 1);
  }
  return shares;
}

function pointsOf(data: Data): string {
  return data.points.of === "rows" ? "training rows" : "samples of the model";
}

/** The range of the data, wider where x is beyond it. */
function range(low: Float32Array, high: Float32Array, x: Float32Array): [number, number] {
  let [least, most] = [Infinity, -Infinity];
  for (const v of low) least = Math.min(least, v);
  for (const v of high) most = Math.max(most, v);
  for (const v of x) {
    least = Math.min(least, v);
    most = Math.max(most, v);
  }
  return most > least ? [least, most] : [least - 1, least + 1];
}

/** A line through shares of the height, from left to right or back. */
function path(shares: Float32Array, width: number, height: number, back = false): string {
  const last = Math.max(1, shares.length - 1);
  return Array.from(shares, (share, i) => {
    const x = (width * (back ? last - i : i)) / last;
    return `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${(height * (1 - share)).toFixed(1)}`;
  }).join("");
}
