// The page: one observation is shown at a time, and everything on the page moves it or follows it.

import { type Data, header, labelOf, latentOf, load } from "./data";
import { get, make, show } from "./dom";
import { LatentMap, whereabouts } from "./map";
import { describeNear, showNear } from "./near";
import { Own } from "./own";
import { lift, nearestPlace, type Place, project, projectAll } from "./plane";
import { hasWebGPU, measure, type Provider, Runner } from "./runner";
import { Sliders } from "./sliders";
import { createView } from "./views";
import { Walk } from "./walk";

const SLOW = 8; // milliseconds for a row: half a frame; past it WebGPU is tried unasked
const REST = 150; // milliseconds without a movement, after which what takes longer follows

async function start(): Promise<void> {
  const data = await load();
  let runner = await Runner.open(data, "wasm");
  const places = projectAll(data);
  const view = createView(data, "Decoded observation");
  get("now").append(view.element);

  let z: Float32Array = latentOf(data, 0);
  let x: Float32Array = new Float32Array(data.size);
  let label = -1;
  let turn = 0; // of what was asked for last: an answer to something older must not replace it
  let wanted = false;
  let working = false;
  let rest = 0; // the timer of what follows

  /** Shows another z; a decoded observation follows as fast as the model is, and the newest z counts. */
  function go(to: Float32Array, origin: string): void {
    turn++;
    move(to, origin);
    wanted = true;
    void decode().catch(fail);
  }

  function move(to: Float32Array, origin: string): void {
    z = to;
    get("origin").textContent = origin;
    map.mark(project(data, z));
    sliders.set(z);
  }

  async function decode(): Promise<void> {
    if (working) return;
    working = true;
    try {
      while (wanted) {
        wanted = false;
        const mine = turn;
        const decoded = await runner.call("decode", { z, label: Int32Array.of(label) });
        if (wanted || mine === turn) showX(decoded.x); // on the way, too, so that a drag is seen
      }
    } finally {
      working = false;
    }
  }

  function showX(to: Float32Array): void {
    x = to;
    view.show(x);
    clearTimeout(rest);
    rest = window.setTimeout(() => void follow().catch(fail), REST);
  }

  /** What takes longer or is read aloud waits for a rest. */
  async function follow(): Promise<void> {
    if (data.points.rows) showNear(data, x, take);
    get("announce").textContent = `${get("origin").textContent}. At ${whereabouts(data, places, project(data, z))}.`;
    if (!data.functions.includes("classify")) return;
    const { probability } = await runner.call("classify", { x });
    const best = probability.indexOf(Math.max(...probability));
    get("guess").textContent = `Classified as ${data.classes[best] ?? best} (${(100 * probability[best]).toFixed(0)} %).`;
  }

  function take(index: number): void {
    go(latentOf(data, index), `${pointName(data, index)}, decoded from its z`);
  }

  async function sample(): Promise<void> {
    const mine = ++turn;
    wanted = false;
    const epsilon = Float32Array.from({ length: data.epsilon_dim }, normal);
    const generated = await runner.call("generate", { epsilon, label: Int32Array.of(label) });
    const encoded = await runner.call("encode", { x: generated.x });
    if (mine !== turn) return;
    move(encoded.z, "A new sample, drawn from the prior; z is what it is encoded to");
    showX(generated.x);
  }

  const map = new LatentMap(data, places, {
    move: (place) => go(lift(data, places, place), "Decoded from this place of the map"),
    take,
  });
  const sliders = new Sliders(data, (to, latent) => go(to, `Decoded from z with latent ${latent} moved`));
  const walk = new Walk(data, () => runner, [latentOf(data, 0), latentOf(data, farthest(places, places[0]))], {
    current: () => z,
    go: (to, share) => go(to, `Decoded ${Math.round(100 * share)} % of the way from A to B`),
    ends: (a, b) =>
      map.markEnds([
        ["A", project(data, a)],
        ["B", project(data, b)],
      ]),
  });
  new Own(data, () => runner, go);

  get("sample").addEventListener("click", () => void sample().catch(fail));
  get("save-x").addEventListener("click", () => save("x.csv", header(data, "x"), x));
  get("save-z").addEventListener("click", () => save("z.csv", header(data, "z"), z));
  describe(data);
  describeNear(data);
  await offerClasses(data, runner, (to, isConditional) => {
    label = to;
    if (!isConditional) return void sample().catch(fail);
    go(z, get("origin").textContent ?? "");
    void walk.redraw(label).catch(fail);
  });

  get("main").hidden = false;
  get("status").hidden = true;
  take(nearestPlace(places, [0, 0]).index);
  await walk.redraw();

  await offerRuntimes(
    () => runner,
    (opened) => (runner = opened),
    data,
  );
}

/** Tells how long a row takes, and lets the user choose; WebGPU is tried unasked only where WebAssembly is slow. */
async function offerRuntimes(current: () => Runner, use: (runner: Runner) => void, data: Data): Promise<void> {
  const choice = get<HTMLSelectElement>("runtime");
  const time = (runner: Runner) => measure(() => runner.call("decode", { z: data.points.mean }));
  const tell = (milliseconds: number) => (get("speed").textContent = `${show(Number(milliseconds.toPrecision(2)))} ms a row`);
  const isThere = await hasWebGPU();
  choice.options[1].disabled = !isThere;
  get("runtime-label").hidden = false;
  const slow = await time(current());
  tell(slow);
  choice.addEventListener("change", async () => {
    choice.disabled = true;
    try {
      const opened = await Runner.open(data, choice.value as Provider);
      tell(await time(opened));
      use(opened);
    } catch (error) {
      choice.value = current().provider;
      fail(error);
    } finally {
      choice.disabled = false;
    }
  });
  if (!isThere || slow < SLOW) return;
  try {
    const opened = await Runner.open(data, "webgpu");
    const fast = await time(opened);
    if (fast >= slow) return;
    use(opened);
    choice.value = "webgpu";
    tell(fast);
  } catch (error) {
    // WebAssembly goes on; who wants WebGPU learns why not.
    choice.options[1].disabled = true;
    choice.title = `WebGPU could not run the model: ${(error as Error).message}`;
  }
}

async function offerClasses(data: Data, runner: Runner, choose: (label: number, isConditional: boolean) => void): Promise<void> {
  if (!data.classes.length) return;
  const isConditional = (await runner.inputs("decode")).includes("label");
  const select = get<HTMLSelectElement>("class");
  select.append(
    make("option", { value: "-1" }, isConditional ? "not given" : "any"),
    ...data.classes.map((name, i) => make("option", { value: String(i) }, name)),
  );
  get("class-name").textContent = isConditional ? "Class" : "Class of samples";
  get("class-label").hidden = false;
  select.addEventListener("change", () => choose(Number(select.value), isConditional));
}

function describe(data: Data): void {
  const { points } = data;
  const title = data.source ?? data.name;
  get("title").textContent = title;
  document.title = `${title}: latent explorer`;
  const facts = [
    data.recipe ?? data.name,
    `${data.size.toLocaleString("en")} numbers to ${data.n.toLocaleString("en")}`,
    ...(data.rmse === null ? [] : [`RMSE on unseen rows ${show(data.rmse[0])}${data.rmse[1] ? " deviations" : ""}`]),
    data.made_with,
  ];
  get("facts").textContent = facts.join(" · ");
  const count = points.count.toLocaleString("en");
  const content =
    points.of === "samples"
      ? `No training rows (${points.note}). The map shows ${count} of the model's own samples.`
      : points.rows
        ? `z of ${count} training rows, ${points.labels ? "their labels, " : ""}and ${points.rows.toLocaleString("en")} of the rows themselves at a byte a number. Whoever can open this page can read them.`
        : `z of ${count} training rows${points.labels ? " and their labels" : ""}, from which the rows can be decoded. Whoever can open this page can do so.`;
  get("holds").textContent = `${content} The model runs in this browser; nothing that you open here is sent anywhere.`;
}

function pointName(data: Data, index: number): string {
  const label = labelOf(data, index);
  const kind = data.points.of === "rows" ? "Training row" : "Sample";
  return `${kind} ${index}${label === null ? "" : `, label ${label}`}`;
}

function farthest(places: Place[], from: Place): number {
  const distances = places.map((p) => Math.hypot(p[0] - from[0], p[1] - from[1]));
  return distances.indexOf(Math.max(...distances));
}

/** Standard normal (Box and Muller 1958). */
function normal(): number {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function save(name: string, names: string[], values: Float32Array): void {
  const cell = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const text = `${names.map(cell).join(",")}\n${Array.from(values).join(",")}\n`;
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function fail(error: unknown): void {
  const status = get("status");
  status.hidden = false;
  status.classList.add("error");
  status.textContent = `The model could not run here: ${error instanceof Error ? error.message : String(error)}`;
}

start().catch(fail);
