// Runs a function of an artifact on the rows of a CSV file, and writes what it gives as CSV:
//   node run.mjs saved_models/digits rows.csv [score]
import { readFileSync } from "node:fs";
import { join } from "node:path";
import ort from "onnxruntime-node";

const BATCH = 1024;
const DAY = 86_400_000; // milliseconds
const MISSING = new Set(["", "na", "n/a", "nan", "null", "none", "nil", "?", ".", "#n/a", "<na>", "nat"]);
const TRUE = new Set(["true", "yes", "t", "y", "1", "1.0"]);
const FALSE = new Set(["false", "no", "f", "n", "0", "0.0"]);

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(2);
}

// Cells in quotes may hold commas, line ends and doubled quotes (RFC 4180).
function parse(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|$)/gy)) {
    rows.at(-1).push((quoted === undefined ? plain : quoted.replaceAll('""', '"')).trim());
    if (end === "") break;
    if (end !== ",") rows.push([]);
  }
  return rows.filter((row) => row.length > 1 || row[0]);
}

// A cell of a table as the graph takes it: a number, a category's code, 0 or 1, days, or NaN where it is missing.
function encode(cell, column) {
  if (MISSING.has(cell.toLowerCase())) return column.nullable ? NaN : undefined;
  if (column.kind === "categorical") return column.levels.indexOf(cell); // -1: a level that training did not have
  if (column.kind === "boolean") {
    const word = cell.toLowerCase();
    return TRUE.has(word) ? 1 : FALSE.has(word) ? 0 : undefined;
  }
  if (column.kind === "datetime") {
    if (column.format) fail(`column ${column.name} has dates of a format of its own: write them in ISO 8601`);
    const zone = /[T ].*(Z|[+-]\d\d:?\d\d)$/.test(cell) ? "" : "Z"; // a time without zone is one of UTC
    const moment = Date.parse(cell.includes(":") ? cell.replace(" ", "T") + zone : cell);
    const days = (moment - Date.parse(column.origin)) / DAY;
    return Number.isNaN(days) ? undefined : days;
  }
  return cell !== "" && Number.isFinite(Number(cell)) ? Number(cell) : undefined;
}

const [folder, file, name = "score"] = process.argv.slice(2);
if (!file) fail("usage: node run.mjs DIR ROWS.csv [FUNCTION]");
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const { shape, dtype } = manifest.input;
const width = shape.reduce((size, n) => size * n, 1);
const columns =
  manifest.table?.columns ?? manifest.columns?.map((column) => ({ name: column, kind: "numeric" }));

const rows = parse(readFileSync(file, "utf8").replace(/^\uFEFF/, ""));
if (!rows.length) fail(`${file} holds no rows`);
const hasHeader = columns || rows[0].some((cell) => Number.isNaN(Number(cell)));
const header = hasHeader ? rows.shift() : [];
const order = columns ? columns.map((column) => header.indexOf(column.name)) : [...Array(width).keys()];
if (order.includes(-1)) fail(`${file} must have the columns ${columns.map((column) => column.name).join(", ")}`);

const session = await ort.InferenceSession.create(join(folder, "onnx/float32", `${name}.onnx`));
if (session.inputNames.join() !== "x") fail(`${name} takes ${session.inputNames}, not rows`);
// ONNX has its outputs in the alphabet's order; first comes the one that the function is named for.
const outputs = [...session.outputNames].sort((a, b) => (b === name) - (a === name));

for (let start = 0; start < rows.length; start += BATCH) {
  const batch = rows.slice(start, start + BATCH);
  const x = dtype === "uint8" ? new Uint8Array(batch.length * width) : new Float32Array(batch.length * width);
  batch.forEach((row, i) =>
    order.forEach((from, j) => {
      const value = encode(row[from] ?? "", columns?.[j] ?? { kind: "numeric" });
      if (value === undefined) fail(`${file}, row ${start + i}, column ${columns?.[j].name ?? j}: '${row[from]}'`);
      x[i * width + j] = value;
    }),
  );
  const found = await session.run({ x: new ort.Tensor(dtype, x, [batch.length, ...shape]) });
  const widths = outputs.map((output) => found[output].data.length / batch.length);
  if (start === 0) {
    const names = outputs.flatMap((o, k) => (widths[k] === 1 ? [o] : [...Array(widths[k]).keys()].map((i) => `${o}_${i}`)));
    console.log(names.join(","));
  }
  for (let i = 0; i < batch.length; i++)
    console.log(
      outputs
        .flatMap((o, k) => [...found[o].data.subarray(i * widths[k], (i + 1) * widths[k])])
        .map((value) => Number(value.toPrecision(9))) // all that a float32 holds
        .join(","),
    );
}
