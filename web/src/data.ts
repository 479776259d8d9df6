// What `keras-ae explore` wrote beside the page.

import type { Column } from "./cells";

export type ViewKind =
  | { kind: "image"; height: number; width: number; channels: number }
  | { kind: "table" }
  | { kind: "curve" }
  | { kind: "channels"; names: string[]; length: number };

interface Content {
  name: string;
  recipe: string | null;
  made_with: string;
  source: string | null;
  rmse: [value: number, in_deviations: boolean] | null;
  shape: number[];
  dtype: string;
  columns: string[] | null;
  table: Column[] | null;
  view: ViewKind;
  latent_shape: number[];
  epsilon_dim: number;
  classes: string[];
  functions: string[];
  weights: boolean;
}

interface Features<T> {
  low: T;
  high: T;
  usual_low: T;
  usual_high: T;
  scale: T;
  in_deviations: boolean;
}

interface Points<T> {
  of: "rows" | "samples";
  note: string | null;
  count: number;
  z: T;
  mean: T;
  deviation: T;
  components: T;
  share: number[];
  label_names: string[];
  labels: number[] | null;
  rows: number;
  usual_distance: number | null;
}

type Written = Content & { features: Features<string>; points: Points<string> & { levels: string } };

export interface Data extends Content {
  size: number; // numbers in an observation
  n: number; // numbers in z
  features: Features<Float32Array>;
  points: Points<Float32Array> & { levels: Uint8Array };
}

export async function load(): Promise<Data> {
  const response = await fetch("./data.json");
  if (!response.ok) throw new Error(`data.json could not be read: ${response.status}.`);
  const written = (await response.json()) as Written;
  const { features, points } = written;
  return {
    ...written,
    size: product(written.shape),
    n: product(written.latent_shape),
    features: {
      low: floats(features.low),
      high: floats(features.high),
      usual_low: floats(features.usual_low),
      usual_high: floats(features.usual_high),
      scale: floats(features.scale),
      in_deviations: features.in_deviations,
    },
    points: {
      ...points,
      z: floats(points.z),
      mean: floats(points.mean),
      deviation: floats(points.deviation),
      components: floats(points.components),
      levels: bytes(points.levels),
    },
  };
}

/** z of a point of the map. */
export function latentOf(data: Data, index: number): Float32Array {
  return data.points.z.slice(index * data.n, (index + 1) * data.n);
}

/** A training row, as exact as its byte a number. */
export function rowOf(data: Data, index: number): Float32Array {
  const { low, high } = data.features;
  const start = index * data.size;
  return Float32Array.from(low, (bottom, i) => bottom + (data.points.levels[start + i] / 255) * (high[i] - bottom));
}

/** What differences of rows are told in. */
export function unitOf(data: Data): string {
  return data.features.in_deviations ? "standard deviations of each column" : "the data's units";
}

export function labelOf(data: Data, index: number): string | null {
  const label = data.points.labels?.[index] ?? -1;
  return label < 0 ? null : data.points.label_names[label];
}

/** Columns of a CSV file of x or z. */
export function header(data: Data, what: "x" | "z"): string[] {
  if (what === "x" && data.columns) return data.columns;
  return Array.from({ length: what === "x" ? data.size : data.n }, (_, i) => `${what}_${i}`);
}

export function product(shape: number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function floats(text: string): Float32Array {
  return new Float32Array(bytes(text).buffer); // little-endian, as every browser's processor
}
