// The map's geometry: z to a place, a place to z, and what is near.

import { type Data, latentOf } from "./data";

export type Place = [number, number];

/** z on the first two principal components. */
export function project(data: Data, z: Float32Array): Place {
  const { mean, components } = data.points;
  const place: Place = [0, 0];
  for (let j = 0; j < data.n; j++) {
    place[0] += (z[j] - mean[j]) * components[j];
    place[1] += (z[j] - mean[j]) * components[data.n + j];
  }
  return place;
}

export function projectAll(data: Data): Place[] {
  return Array.from({ length: data.points.count }, (_, i) => project(data, latentOf(data, i)));
}

/** A z at a place: the mean of the points near it with Gaussian weights (Nadaraya 1964, Watson 1964; bandwidth by
 * Scott's rule), moved within the plane so that it lies at the place. */
export function lift(data: Data, places: Place[], [a, b]: Place): Float32Array {
  const bandwidth = places.length ** (-1 / 6) * Math.sqrt(mean(places, (p) => p[0] ** 2 + p[1] ** 2) / 2) || 1;
  const exponents = places.map((p) => ((p[0] - a) ** 2 + (p[1] - b) ** 2) / (2 * bandwidth ** 2));
  const least = exponents.reduce((x, y) => Math.min(x, y), Infinity); // so that the nearest counts however far it is
  const z = new Float64Array(data.n);
  let total = 0;
  exponents.forEach((exponent, i) => {
    const weight = Math.exp(least - exponent);
    if (weight < 1e-6) return;
    total += weight;
    for (let j = 0; j < data.n; j++) z[j] += weight * data.points.z[i * data.n + j];
  });
  const lifted = Float32Array.from(z, (value) => value / total);
  const [c, d] = project(data, lifted);
  const { components } = data.points;
  return lifted.map((value, j) => value + (a - c) * components[j] + (b - d) * components[data.n + j]);
}

export function nearestPlace(places: Place[], [a, b]: Place): { index: number; distance: number } {
  let best = { index: 0, distance: Infinity };
  places.forEach((p, index) => {
    const distance = Math.hypot(p[0] - a, p[1] - b);
    if (distance < best.distance) best = { index, distance };
  });
  return best;
}

export interface Neighbour {
  index: number;
  distance: number; // root mean squared difference, in the data's units or in deviations
}

/** The k training rows nearest to x, each as exact as its byte a number. */
export function nearestRows(data: Data, x: Float32Array, k: number): Neighbour[] {
  const { low, high, scale } = data.features;
  const { levels, rows } = data.points;
  const target = x.map((value, i) => (value - low[i]) / scale[i]);
  const step = high.map((top, i) => (top - low[i]) / 255 / scale[i]);
  const found: Neighbour[] = [];
  for (let index = 0, at = 0; index < rows; index++) {
    let sum = 0;
    for (let j = 0; j < data.size; j++, at++) {
      const gap = levels[at] * step[j] - target[j];
      if (!Number.isNaN(gap)) sum += gap ** 2; // a missing cell is no difference
    }
    found.push({ index, distance: Math.sqrt(sum / data.size) });
  }
  return found.sort((a, b) => a.distance - b.distance).slice(0, k);
}

function mean<T>(items: T[], value: (item: T) => number): number {
  return items.reduce((sum, item) => sum + value(item), 0) / items.length;
}
