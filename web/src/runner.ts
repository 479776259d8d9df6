// The artifact's graphs in ONNX Runtime Web: one call at a time, each graph opened when it is first called.

import type { InferenceSession, Tensor } from "onnxruntime-web";
import { type Data, product } from "./data";

export type Provider = "wasm" | "webgpu";
type Values = Float32Array | Uint8Array | Int32Array;

const IMPORTS = {
  wasm: () => import("onnxruntime-web/wasm"),
  webgpu: () => import("onnxruntime-web/webgpu"),
};

export class Runner {
  private sessions = new Map<string, Promise<InferenceSession>>();
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    private data: Data,
    readonly provider: Provider,
    private ort: Awaited<ReturnType<(typeof IMPORTS)[Provider]>>,
    private weights: Promise<Uint8Array> | null,
  ) {}

  static async open(data: Data, provider: Provider): Promise<Runner> {
    const weights = data.weights ? download("./model/weights.bin") : null;
    const ort = await IMPORTS[provider]();
    ort.env.wasm.numThreads = 1; // more need headers that a static host doesn't send
    ort.env.logLevel = "error";
    const runner = new Runner(data, provider, ort, weights);
    await runner.session("decode");
    return runner;
  }

  /** Names of what a function takes. */
  async inputs(name: string): Promise<readonly string[]> {
    return (await this.session(name)).inputNames;
  }

  /** Runs a function on a batch; values are flat, row after row. A label that the graph asks for and that is not given
   * is unknown. */
  async call(name: string, given: Record<string, Float32Array | Int32Array>): Promise<Record<string, Float32Array>> {
    const session = await this.session(name);
    const feeds: Record<string, Tensor> = {};
    const [first] = Object.entries(given);
    const batch = first[1].length / product(this.shape(first[0]));
    for (const input of session.inputNames) {
      const values = given[input] ?? new Int32Array(batch).fill(-1);
      feeds[input] = this.tensor(input, values, [batch, ...this.shape(input)]);
    }
    const run = this.last.then(() => session.run(feeds));
    this.last = run.catch(() => undefined); // its caller hears of it; the next call starts all the same
    const outputs: Record<string, Float32Array> = {};
    for (const [key, tensor] of Object.entries(await run)) outputs[key] = tensor.data as Float32Array;
    return outputs;
  }

  private shape(input: string): number[] {
    if (input === "x") return this.data.shape;
    if (input === "z") return this.data.latent_shape;
    return input === "epsilon" ? [this.data.epsilon_dim] : [];
  }

  private tensor(input: string, values: Values, shape: number[]): Tensor {
    if (input === "label") return new this.ort.Tensor("int32", Int32Array.from(values), shape);
    if (input === "x" && this.data.dtype === "uint8") {
      return new this.ort.Tensor("uint8", Uint8Array.from(Uint8ClampedArray.from(values)), shape);
    }
    return new this.ort.Tensor("float32", Float32Array.from(values), shape);
  }

  private session(name: string): Promise<InferenceSession> {
    let session = this.sessions.get(name);
    if (!session) {
      session = this.create(name);
      this.sessions.set(name, session);
    }
    return session;
  }

  private async create(name: string): Promise<InferenceSession> {
    const [graph, weights] = await Promise.all([download(`./model/${name}.onnx`), this.weights]);
    const create = this.last.then(() =>
      this.ort.InferenceSession.create(graph, {
        executionProviders: [this.provider],
        externalData: weights ? [{ path: "weights.bin", data: weights }] : [],
      }),
    );
    this.last = create.catch(() => undefined);
    return create;
  }
}

/** Milliseconds of the median call. */
export async function measure(call: () => Promise<unknown>, times = 9): Promise<number> {
  await call();
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    await call();
    taken.push(performance.now() - start);
  }
  return taken.sort((a, b) => a - b)[times >> 1];
}

export async function hasWebGPU(): Promise<boolean> {
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
  return gpu !== undefined && (await gpu.requestAdapter()) !== null;
}

async function download(url: string): Promise<Uint8Array> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} could not be read: ${response.status}.`);
  return new Uint8Array(await response.arrayBuffer());
}
