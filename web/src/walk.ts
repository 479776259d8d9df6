// A straight line in z between two observations.

import type { Data } from "./data";
import { get, make, show } from "./dom";
import type { Runner } from "./runner";
import { thumbnail } from "./views";

const STEPS = 7;
const SECONDS = 4; // from A to B

export class Walk {
  private slider = get<HTMLInputElement>("walk");
  private playing = 0;
  private drawn = 0;

  constructor(
    private data: Data,
    private runner: () => Runner,
    private ends: [Float32Array, Float32Array],
    private on: { current(): Float32Array; go(z: Float32Array, share: number): void; ends(a: Float32Array, b: Float32Array): void },
  ) {
    for (const [i, name] of ["a", "b"].entries()) {
      get(`set-${name}`).addEventListener("click", () => {
        this.ends[i] = this.on.current().slice();
        this.slider.value = String(i);
        void this.redraw();
      });
    }
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    get("play").addEventListener("click", () => this.play(!this.playing));
  }

  /** Decodes the steps between the ends, in one batch. */
  async redraw(label = this.label): Promise<void> {
    this.label = label;
    const turn = ++this.drawn;
    this.on.ends(...this.ends);
    const shares = Array.from({ length: STEPS }, (_, i) => i / (STEPS - 1));
    const { x } = await this.runner().call("decode", {
      z: Float32Array.from(shares.flatMap((share) => Array.from(this.at(share)))),
      label: new Int32Array(STEPS).fill(label),
    });
    if (turn !== this.drawn) return; // a later one is under way
    get("steps").replaceChildren(
      ...shares.map((share, i) => {
        const picture = thumbnail(this.data, x.slice(i * this.data.size, (i + 1) * this.data.size));
        const name = share === 0 ? "A" : share === 1 ? "B" : show(Math.round(100 * share) / 100);
        const button = make("button", { type: "button" }, picture, make("span", {}, name));
        button.addEventListener("click", () => {
          this.slider.value = String(share);
          this.go(share);
        });
        return make("li", {}, button);
      }),
    );
  }

  private label = -1;

  private at(share: number): Float32Array {
    const [a, b] = this.ends;
    return a.map((value, i) => value + share * (b[i] - value));
  }

  private go(share: number): void {
    this.on.go(this.at(share), share);
  }

  private play(on: boolean): void {
    cancelAnimationFrame(this.playing);
    this.playing = 0;
    const button = get("play");
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "Stop" : "Play";
    if (!on) return;
    const start = performance.now() - 1000 * SECONDS * (Number(this.slider.value) % 1);
    const frame = (now: number) => {
      const share = Math.min(1, (now - start) / 1000 / SECONDS);
      this.slider.value = String(share);
      this.go(share);
      if (share < 1) this.playing = requestAnimationFrame(frame);
      else this.play(false);
    };
    this.playing = requestAnimationFrame(frame);
  }
}
