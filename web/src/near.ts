// The training rows nearest to what is shown.

import { type Data, labelOf, rowOf, unitOf } from "./data";
import { get, make, show } from "./dom";
import { nearestRows } from "./plane";
import { thumbnail } from "./views";

const NEIGHBOURS = 6;

export function describeNear(data: Data): void {
  const { points } = data;
  get("near").hidden = points.rows === 0;
  if (points.rows === 0) {
    get("near-text").textContent = `This page holds no training rows: ${points.note ?? "a row is too large to travel"}.`;
    return;
  }
  const all = points.rows === points.count ? "" : ` of ${points.count.toLocaleString("en")} on the map`;
  const usual = points.usual_distance === null ? "" : ` A training row and its nearest usually differ by ${show(points.usual_distance)} (median); much less is nearly a copy.`;
  get("near-text").textContent = `By the root mean squared difference to ${points.rows.toLocaleString("en")} training rows${all}, in ${unitOf(data)}.${usual}`;
}

export function showNear(data: Data, x: Float32Array, take: (index: number) => void): void {
  const items = nearestRows(data, x, NEIGHBOURS).map(({ index, distance }) => {
    const label = labelOf(data, index);
    const words = [make("span", {}, label === null ? `Row ${index}` : label), make("span", { className: "quiet" }, show(distance))];
    const button = make("button", { type: "button", title: `Point ${index} of the map` }, thumbnail(data, rowOf(data, index)), ...words);
    button.setAttribute("aria-label", `Row ${index}${label === null ? "" : `, label ${label}`}, difference ${show(distance)}`);
    button.addEventListener("click", () => take(index));
    return make("li", {}, button);
  });
  get("near").replaceChildren(...items);
}
