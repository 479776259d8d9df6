// A slider for each latent, from the one that varies most to the one that varies least.

import type { Data } from "./data";
import { get, make } from "./dom";

const FIRST = 16;
const DEVIATIONS = 4;

export class Sliders {
  private inputs: HTMLInputElement[] = []; // by latent
  private outputs: HTMLOutputElement[] = [];
  private z: Float32Array;

  constructor(data: Data, change: (z: Float32Array, latent: number) => void) {
    const { mean, deviation } = data.points;
    this.z = mean.slice();
    const order = Array.from(deviation.keys()).sort((a, b) => deviation[b] - deviation[a]);
    const host = get("sliders");
    const hidden: HTMLElement[] = [];
    order.forEach((latent, rank) => {
      // One that never moves is not used by the model; noise of the prior is what it may take.
      const reach = DEVIATIONS * (deviation[latent] > 1e-3 ? deviation[latent] : 1);
      const input = make("input", { type: "range", min: String(mean[latent] - reach), max: String(mean[latent] + reach) });
      input.step = String(reach / 100);
      const output = make("output");
      const name = make("span", { className: "name" }, "z", make("sub", {}, String(latent)));
      const row = make("label", { className: "slider" }, name, input, output);
      input.setAttribute("aria-label", `Latent ${latent}`);
      input.addEventListener("input", () => {
        const z = this.z.slice();
        z[latent] = Number(input.value);
        change(z, latent);
      });
      this.inputs[latent] = input;
      this.outputs[latent] = output;
      if (rank >= FIRST) hidden.push(row);
      host.append(row);
    });
    const more = get("more");
    for (const row of hidden) row.hidden = true;
    more.hidden = hidden.length === 0;
    more.textContent = `Show all ${order.length}`;
    more.addEventListener("click", () => {
      for (const row of hidden) row.hidden = false;
      more.hidden = true;
      this.inputs[order[FIRST]].focus();
    });
  }

  set(z: Float32Array): void {
    this.z = z;
    z.forEach((value, latent) => {
      this.inputs[latent].value = String(value);
      this.outputs[latent].textContent = value.toFixed(2).replace("-", "\u2212");
    });
  }
}
