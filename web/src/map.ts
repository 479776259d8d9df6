// The latent map: points on a canvas, and a place on it that moves.

import { type Data, labelOf } from "./data";
import { get, make } from "./dom";
import { nearestPlace, type Place } from "./plane";

const STEP = 0.02; // of the map's width, for an arrow key
const REACH = 10; // pixels within which a click means the point
const COLOURS = 10;
const NAME_ROOM = 18; // pixels between two names; the legend has them all

interface Handlers {
  move(place: Place): void;
  take(index: number): void;
}

export class LatentMap {
  private canvas = get<HTMLCanvasElement>("map");
  private points = document.createElement("canvas"); // drawn once, under the marks
  private half: number; // of the width, in units of z
  private place: Place = [0, 0];
  private ends: [string, Place][] = [];

  constructor(
    private data: Data,
    private places: Place[],
    private on: Handlers,
  ) {
    this.half = 1.08 * places.reduce((most, p) => Math.max(most, Math.abs(p[0]), Math.abs(p[1])), 1e-6);
    this.listen();
    this.describe();
    new ResizeObserver(() => this.drawPoints()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.drawPoints());
  }

  /** Marks where the shown observation is. */
  mark(place: Place): void {
    this.place = place;
    this.draw();
  }

  /** Marks the ends of the walk. */
  markEnds(ends: [string, Place][]): void {
    this.ends = ends;
    this.draw();
  }

  private listen(): void {
    const { canvas } = this;
    let from: Place | null = null;
    let dragged = false;
    const at = (event: PointerEvent): Place => [event.offsetX, event.offsetY];
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = at(event);
      dragged = false;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = at(event);
      dragged ||= Math.hypot(to[0] - from[0], to[1] - from[1]) > 3;
      if (dragged) this.on.move(this.placeAt(to));
    });
    canvas.addEventListener("pointerup", (event) => {
      if (from && !dragged) this.click(at(event));
      from = null;
    });
    canvas.addEventListener("pointercancel", () => (from = null));
    canvas.addEventListener("keydown", (event) => {
      const step = 2 * this.half * STEP * (event.shiftKey ? 5 : 1);
      const moves: Record<string, Place> = {
        ArrowLeft: [-step, 0],
        ArrowRight: [step, 0],
        ArrowUp: [0, step],
        ArrowDown: [0, -step],
      };
      const move = moves[event.key];
      if (move) {
        const limit = (value: number) => Math.min(this.half, Math.max(-this.half, value));
        this.on.move([limit(this.place[0] + move[0]), limit(this.place[1] + move[1])]);
      } else if (event.key === "Enter" || event.key === " ") this.on.take(nearestPlace(this.places, this.place).index);
      else return;
      event.preventDefault();
    });
  }

  private click(pixel: Place): void {
    const place = this.placeAt(pixel);
    const { index, distance } = nearestPlace(this.places, place);
    if (distance < (REACH / this.canvas.clientWidth) * 2 * this.half) this.on.take(index);
    else this.on.move(place);
  }

  private placeAt([x, y]: Place): Place {
    const { clientWidth, clientHeight } = this.canvas;
    return [(2 * x / clientWidth - 1) * this.half, (1 - 2 * y / clientHeight) * this.half];
  }

  private pixel([a, b]: Place): Place {
    const { clientWidth, clientHeight } = this.canvas;
    return [((a / this.half + 1) / 2) * clientWidth, ((1 - b / this.half) / 2) * clientHeight];
  }

  private describe(): void {
    const { of, count, share, label_names } = this.data.points;
    const what = of === "rows" ? "training rows" : "samples of the model";
    this.canvas.setAttribute("aria-label", `Latent map of ${count.toLocaleString("en")} ${what}`);
    const [a, b] = share.map((s) => `${(100 * s).toFixed(0)} %`);
    get("map-axes").textContent =
      this.data.n === 1
        ? "The one latent, from left to right."
        : this.data.n === 2
          ? "The two latents, turned to their principal axes."
          : `Across and up: the first two principal components of z, ${a} and ${b} of its variance.`;
    const legend = get("legend");
    legend.hidden = label_names.length === 0;
    legend.replaceChildren(
      ...label_names.map((name, i) => {
        const swatch = make("canvas", { width: 24, height: 24, className: "swatch", ariaHidden: "true" });
        swatch.dataset.label = String(i);
        return make("li", {}, swatch, name);
      }),
    );
  }

  private drawPoints(): void {
    const { canvas, points } = this;
    const ratio = devicePixelRatio;
    for (const target of [canvas, points]) {
      target.width = Math.round(canvas.clientWidth * ratio);
      target.height = Math.round(canvas.clientHeight * ratio);
    }
    const context = points.getContext("2d");
    if (!context || canvas.clientWidth === 0) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(canvas);
    const ink = style.getPropertyValue("--axis");
    context.strokeStyle = ink;
    context.lineWidth = 1;
    context.beginPath();
    const [x, y] = this.pixel([0, 0]);
    context.moveTo(x, 0);
    context.lineTo(x, canvas.clientHeight);
    context.moveTo(0, y);
    context.lineTo(canvas.clientWidth, y);
    context.stroke();
    const labels = this.data.points.labels;
    const size = canvas.clientWidth < 500 ? 2.2 : 2.8;
    context.globalAlpha = 0.75;
    this.places.forEach((place, i) => {
      context.fillStyle = colour(style, labels?.[i] ?? -1);
      shape(context, labels?.[i] ?? -1, this.pixel(place), size);
    });
    context.globalAlpha = 1;
    this.drawNames(context, style);
    for (const swatch of document.querySelectorAll<HTMLCanvasElement>(".swatch")) {
      const label = Number(swatch.dataset.label);
      const pen = swatch.getContext("2d");
      if (!pen) continue;
      pen.clearRect(0, 0, 24, 24);
      pen.fillStyle = colour(style, label);
      shape(pen, label, [12, 12], 8);
    }
    this.draw();
  }

  /** Each label's name at the median of its points, so that colour is not all that tells them apart. */
  private drawNames(context: CanvasRenderingContext2D, style: CSSStyleDeclaration): void {
    const { label_names, labels } = this.data.points;
    if (!labels || label_names.length > 20) return;
    context.font = "600 14px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 4;
    context.lineJoin = "round";
    const drawn: Place[] = [];
    label_names.forEach((name, label) => {
      const own = this.places.filter((_, i) => labels[i] === label);
      if (!own.length) return;
      const [x, y] = this.pixel([0, 1].map((axis) => median(own.map((p) => p[axis]))) as Place);
      if (drawn.some((other) => Math.hypot(other[0] - x, other[1] - y) < NAME_ROOM)) return;
      drawn.push([x, y]);
      context.strokeStyle = style.getPropertyValue("--card");
      context.strokeText(name, x, y);
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(name, x, y);
    });
  }

  private draw(): void {
    const context = this.canvas.getContext("2d");
    if (!context || this.points.width === 0) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.points, 0, 0);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    const style = getComputedStyle(this.canvas);
    const ink = style.getPropertyValue("--ink");
    const card = style.getPropertyValue("--card");
    if (this.ends.length === 2) {
      const [a, b] = this.ends.map(([, place]) => this.pixel(place));
      context.setLineDash([5, 4]);
      line(context, a, b, card, 3.5);
      line(context, a, b, ink, 1.5);
      context.setLineDash([]);
      context.font = "700 12px system-ui, sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      for (const [name, place] of this.ends) {
        const [x, y] = this.pixel(place);
        disc(context, [x, y], 9, card, ink, 1.5);
        context.fillStyle = ink;
        context.fillText(name, x, y + 0.5);
      }
    }
    const edge = 0.96 * this.half; // what lies beyond the map is marked at its edge
    const limited = this.place.map((v) => Math.min(edge, Math.max(-edge, v))) as Place;
    const here = this.pixel(limited);
    disc(context, here, 8, "transparent", card, 5);
    disc(context, here, 8, "transparent", style.getPropertyValue("--accent"), 2.5);
    disc(context, here, 2, style.getPropertyValue("--accent"), "transparent", 0);
  }
}

/** In words: where it is, and what is near. */
export function whereabouts(data: Data, places: Place[], place: Place): string {
  const { index } = nearestPlace(places, place);
  const label = labelOf(data, index);
  return `${place.map((v) => v.toFixed(2)).join(", ")}; nearest point ${index}${label === null ? "" : `, label ${label}`}`;
}

function colour(style: CSSStyleDeclaration, label: number): string {
  return style.getPropertyValue(label < 0 ? "--point" : `--label-${label % COLOURS}`);
}

/** The first ten labels are discs, the next ten squares, then triangles, then diamonds. */
function shape(context: CanvasRenderingContext2D, label: number, [x, y]: Place, size: number): void {
  context.beginPath();
  const kind = label < 0 ? 0 : Math.floor(label / COLOURS) % 4;
  if (kind === 0) context.arc(x, y, size, 0, 2 * Math.PI);
  else if (kind === 1) context.rect(x - size, y - size, 2 * size, 2 * size);
  else {
    const corners = kind === 2 ? 3 : 4;
    for (let i = 0; i < corners; i++) {
      const angle = (2 * Math.PI * i) / corners - Math.PI / 2;
      context.lineTo(x + 1.3 * size * Math.cos(angle), y + 1.3 * size * Math.sin(angle));
    }
  }
  context.fill();
}

function disc(context: CanvasRenderingContext2D, [x, y]: Place, size: number, fill: string, stroke: string, width: number): void {
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  context.strokeStyle = stroke;
  context.lineWidth = width;
  if (width) context.stroke();
}

function line(context: CanvasRenderingContext2D, a: Place, b: Place, stroke: string, width: number): void {
  context.beginPath();
  context.moveTo(...a);
  context.lineTo(...b);
  context.strokeStyle = stroke;
  context.lineWidth = width;
  context.stroke();
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1];
}
