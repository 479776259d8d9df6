// Your own observation: encoded, reconstructed and scored.

import { type Data, unitOf } from "./data";
import { get, make, number } from "./dom";
import { readImage, readRows } from "./reading";
import type { Runner } from "./runner";
import { createDifference, createView, imageRange } from "./views";

export class Own {
  private rows: Float32Array[] = [];

  constructor(
    private data: Data,
    private runner: () => Runner,
    private done: (z: Float32Array, label: string) => void,
  ) {
    this.describe();
    const [file, paste, line, drop] = [get<HTMLInputElement>("file"), get<HTMLTextAreaElement>("paste"), get<HTMLInputElement>("line"), get("drop")];
    file.addEventListener("change", () => {
      const chosen = file.files?.[0];
      if (chosen) void this.read(chosen);
      file.value = ""; // so that the same file can be chosen again
    });
    get("read").addEventListener("click", () => void this.read(paste.value));
    get("invert").addEventListener("change", () => this.image && void this.read(this.image));
    line.addEventListener("change", () => void this.judge(Number(line.value) - 1));
    drop.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      const dropped = event.dataTransfer?.files[0] ?? event.dataTransfer?.getData("text");
      if (dropped) void this.read(dropped);
    });
  }

  private image: File | null = null;

  private describe(): void {
    const { data } = this;
    const isImage = data.view.kind === "image";
    const wants = data.columns ? `${data.size} columns, by name in any order or in the order of training` : `${data.size} numbers`;
    let help = `Encoded, reconstructed and scored here; it does not leave this page. A row has ${wants}.`;
    if (isImage) {
      const [low, high] = imageRange(data);
      help += ` An image is brought to the model's size; black becomes ${low} and white ${high}.`;
    }
    get("own-help").textContent = help;
    get("file-label").textContent = isImage ? "Drop an image or a CSV file here, or choose one" : "Drop a CSV file here, or choose one";
    get<HTMLInputElement>("file").accept = isImage ? "image/*,.csv,text/csv" : ".csv,text/csv";
    get("invert-label").hidden = !isImage;
  }

  private async read(given: File | string): Promise<void> {
    get("own-error").textContent = "";
    try {
      this.image = given instanceof File && given.type.startsWith("image/") ? given : null;
      if (this.image) this.rows = [await readImage(this.data, this.image, get<HTMLInputElement>("invert").checked)];
      else this.rows = readRows(this.data, typeof given === "string" ? given : await given.text());
      get("line-label").hidden = this.rows.length === 1;
      get("lines").textContent = this.rows.length.toLocaleString("en");
      const line = get<HTMLInputElement>("line");
      line.max = String(this.rows.length);
      line.value = "1";
      await this.judge(0);
    } catch (error) {
      get("own-result").replaceChildren();
      get("own-error").textContent = (error as Error).message;
    }
  }

  private async judge(index: number): Promise<void> {
    const x = this.rows[index];
    if (!x) return;
    const { data } = this;
    const runner = this.runner();
    const { z } = await runner.call("encode", { x });
    const { x_hat } = await runner.call("reconstruct", { x });
    const { score, p_value } = await runner.call("score", { x });
    const { scale } = data.features;
    const rmse = Math.sqrt(x.reduce((sum, value, i) => sum + ((value - x_hat[i]) / scale[i]) ** 2, 0) / x.length);
    const facts = make("dl", { className: "facts" });
    const fact = (name: string, ...value: (Node | string)[]) =>
      facts.append(make("div", {}, make("dt", {}, name), make("dd", {}, ...value)));
    fact("Score, higher is more anomalous", number(score[0]));
    facts.querySelector("data")?.setAttribute("id", "score");
    if (p_value) {
      const value = number(p_value[0]);
      value.id = "p-value";
      fact("p-value", value, ` ${meaning(p_value[0])}`);
    }
    if (!data.table) fact(`RMSE, in ${unitOf(data)}`, number(rmse)); // of codes and dates there is none
    if (data.functions.includes("classify")) {
      const { probability } = await runner.call("classify", { x });
      const best = probability.indexOf(Math.max(...probability));
      fact("Class", `${data.classes[best] ?? best} (${(100 * probability[best]).toFixed(0)} %)`);
    }
    get("own-result").replaceChildren(...pictures(data, x, x_hat), facts);
    this.done(z, this.rows.length > 1 ? `Your row ${index + 1}, decoded from its z` : "Your observation, decoded from its z");
  }
}

function meaning(p: number): string {
  if (p > 0.99) return "(every held-out normal row scores as high)";
  return `(about ${Math.max(1, Math.round(100 * p))} of 100 normal rows score as high)`;
}

function pictures(data: Data, x: Float32Array, reconstructed: Float32Array): HTMLElement[] {
  if (data.view.kind !== "image") {
    const view = createView(data, "The observation, and its reconstruction behind it");
    view.show(x, reconstructed);
    const key = make(
      "p",
      { className: "key quiet" },
      make("span", { className: "key-mark" }),
      "observation ",
      make("span", { className: "key-mark behind" }),
      "reconstruction",
    );
    return [make("figure", { className: "wide" }, view.element, make("figcaption", {}, key))];
  }
  const figures = [
    ["Observation", createView(data, "Your observation"), x, undefined],
    ["Reconstruction", createView(data, "Its reconstruction"), reconstructed, undefined],
    ["Absolute difference", createDifference(data, "Their absolute difference"), x, reconstructed],
  ] as const;
  return figures.map(([caption, view, values, other]) => {
    view.show(values, other);
    return make("figure", {}, view.element, make("figcaption", {}, caption));
  });
}
