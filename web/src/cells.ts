// Cells of a table with categories, booleans, dates and missing values: to the numbers of its rows, and back.

import type { Data } from "./data";
import { number } from "./dom";
import { amountOf, isKnown, momentOf, written } from "./values";

export interface Column {
  name: string;
  kind: "numeric" | "categorical" | "boolean" | "datetime";
  nullable?: boolean;
  whole?: boolean;
  levels?: string[];
  origin?: string;
  format?: string;
  decimal?: string;
  clock?: boolean;
}

const DAY = 86_400_000; // milliseconds
const MISSING = new Set(["", "na", "n/a", "nan", "null", "none", "nil", "?", ".", "#n/a", "<na>", "nat"]);
const TRUE = new Set(["true", "yes", "t", "y", "1", "1.0"]);
const FALSE = new Set(["false", "no", "f", "n", "0", "0.0"]);

/** What the i-th number of a row says. */
export function cell(data: Data, i: number, value: number): HTMLElement {
  const column = data.table?.[i];
  if (!column || (column.kind === "numeric" && !Number.isNaN(value))) return number(column?.whole ? Math.round(value) : value);
  const text = document.createElement("data");
  text.value = String(value);
  text.textContent = words(column, value);
  return text;
}

/** The number that a cell's text stands for; NaN where it is missing and may be. Throws where it is of no use. */
export function parse(data: Data, i: number, text: string): number {
  const column = data.table?.[i];
  const wrong = (rule: string) => new Error(`${column?.name ?? "Each cell"} must be ${rule}. Received: "${text}".`);
  if (!column || column.kind === "numeric") {
    if (column?.nullable && MISSING.has(text.toLowerCase())) return NaN;
    const value = text === "" ? NaN : column?.decimal ? amountOf(text, column.decimal) : Number(text);
    if (!Number.isFinite(Math.fround(value))) throw wrong("a number");
    return value;
  }
  const word = text.toLowerCase();
  if (MISSING.has(word)) {
    if (column.nullable) return NaN;
    throw wrong("there, as in training");
  }
  if (column.kind === "categorical") return (column.levels ?? []).indexOf(text);
  if (column.kind === "boolean") {
    if (!TRUE.has(word) && !FALSE.has(word)) throw wrong("true or false");
    return TRUE.has(word) ? 1 : 0;
  }
  const format = column.format && isKnown(column.format) ? column.format : "";
  const zone = /[T ].*(Z|[+-]\d\d:?\d\d)$/.test(text) ? "" : "Z"; // a time without zone is one of UTC
  const moment = format ? momentOf(text, format) : Date.parse(text.includes(":") ? text.replace(" ", "T") + zone : text);
  if (Number.isNaN(moment)) throw wrong(`a date or time, ${format || "ISO 8601"}`);
  return (moment - origin(column)) / DAY;
}

function words(column: Column, value: number): string {
  if (Number.isNaN(value)) return "missing";
  const levels = column.levels ?? [];
  if (column.kind === "categorical") return levels[Math.round(value)] ?? "another";
  if (column.kind === "boolean") return levels[value >= 0.5 ? 1 : 0] ?? String(value >= 0.5);
  const date = new Date(origin(column) + value * DAY);
  if (column.format && isKnown(column.format)) return written(date, column.format);
  const moment = date.toISOString();
  return column.clock ? moment.slice(0, 16).replace("T", " ") : moment.slice(0, 10);
}

function origin(column: Column): number {
  return Date.parse(`${column.origin}T00:00:00Z`);
}
