// An observation from a file or from pasted text. Errors give the rule, then what came.

import { parse } from "./cells";
import type { Data } from "./data";
import { imageRange } from "./views";

/** Rows of numbers, in the order of the model's columns. */
export function readRows(data: Data, text: string): Float32Array[] {
  const lines = text.split(/\r?\n/).filter((line) => line.trim());
  if (!lines.length) throw new Error("A row of numbers must be given. Received: nothing.");
  const separator = separatorOf(lines);
  const cells = lines.map((line) => split(line, separator).map(separator === ";" ? withPoint : (cell) => cell));
  const known = data.columns;
  const isHeader = data.table
    ? !!known && cells[0].some((cell) => known.includes(cell))
    : cells[0].some((cell) => cell === "" || Number.isNaN(Number(cell)));
  const order = isHeader ? columns(data, cells[0]) : null;
  const rows = isHeader ? cells.slice(1) : cells;
  if (!rows.length) throw new Error("A row of numbers must follow the names. Received: names only.");
  return rows.map((row, index) => {
    const width = order ? cells[0].length : data.size;
    if (row.length !== width) throw new Error(`A row must have ${width} numbers. Received: ${row.length} in row ${index + 1}.`);
    const x = (order ? order.map((i) => row[i]) : row).map((cell, i) => {
      try {
        return parse(data, i, cell);
      } catch (error) {
        throw new Error(`${(error as Error).message.replace(/\.$/, "")} in row ${index + 1}.`);
      }
    });
    if (data.dtype === "uint8" && x.some((value) => !Number.isInteger(value) || value < 0 || value > 255)) {
      throw new Error("Numbers must be whole, from 0 to 255, as in training.");
    }
    return Float32Array.from(x);
  });
}

/** An image at the model's size; black and white become the ends of the data's range. */
export async function readImage(data: Data, file: Blob, invert: boolean): Promise<Float32Array> {
  if (data.view.kind !== "image") throw new Error("This model takes rows of numbers. Received: an image.");
  const { width, height, channels } = data.view;
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error("The file must be an image that this browser can read.");
  });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser gave no canvas.");
  context.fillStyle = invert ? "white" : "black"; // under what is transparent
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  const [low, high] = imageRange(data);
  const x = new Float32Array(data.size);
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = pixels.subarray(4 * i, 4 * i + 3);
    const values = channels === 3 ? [red, green, blue] : [0.299 * red + 0.587 * green + 0.114 * blue]; // luma, BT.601
    values.forEach((value, c) => {
      const share = (invert ? 255 - value : value) / 255;
      x[i * channels + c] = low + share * (high - low);
    });
  }
  return data.dtype === "uint8" ? x.map(Math.round) : x;
}

function columns(data: Data, names: string[]): number[] {
  if (!data.columns) {
    if (names.length !== data.size) throw new Error(`A row must have ${data.size} numbers. Received: ${names.length} names.`);
    return names.map((_, i) => i);
  }
  const missing = data.columns.filter((name) => !names.includes(name));
  if (missing.length) throw new Error(`The row must have column ${missing.slice(0, 5).join(", ")}. Received: ${names.slice(0, 5).join(", ")}.`);
  return data.columns.map((name) => names.indexOf(name));
}

/** What cuts the first two lines into as many cells, two or more. */
function separatorOf(lines: string[]): string {
  const even = ["\t", ";", ","].find((mark) => {
    const [first, second = first] = lines.slice(0, 2).map((line) => split(line, mark).length);
    return first > 1 && first === second;
  });
  return even ?? (lines[0].includes(",") ? "," : " ");
}

/** A number between semicolons may have a decimal comma. */
function withPoint(cell: string): string {
  return cell.replace(/^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$/, "$1.$2");
}

function split(line: string, separator: string): string[] {
  if (separator === " ") return line.trim().split(/\s+/);
  const cells: string[] = [];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    if (quoted && line[i] === '"' && line[i + 1] === '"') cell += line[i++];
    else if (line[i] === '"') quoted = !quoted;
    else if (line[i] === separator && !quoted) {
      cells.push(cell.trim());
      cell = "";
    } else cell += line[i];
  }
  return [...cells, cell.trim()];
}
