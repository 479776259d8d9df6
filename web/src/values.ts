// One cell as a number or a moment, and moments as text again: what keras_ae/data/values.py does.

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const padded = (value: number, digits = 2) => String(value).padStart(digits, "0");
/** What a directive of `strptime` matches, and what it writes. */
const DIRECTIVES: Record<string, [string, (moment: Date) => string]> = {
  Y: ["\\d{4}", (moment) => padded(moment.getUTCFullYear(), 4)],
  m: ["\\d{1,2}", (moment) => padded(moment.getUTCMonth() + 1)],
  d: ["\\d{1,2}", (moment) => padded(moment.getUTCDate())],
  b: ["[A-Za-z]{3}", (moment) => MONTHS[moment.getUTCMonth()] ?? ""],
  H: ["\\d{1,2}", (moment) => padded(moment.getUTCHours())],
  M: ["\\d{1,2}", (moment) => padded(moment.getUTCMinutes())],
  S: ["\\d{1,2}", (moment) => padded(moment.getUTCSeconds())],
};

/** Whether all directives of a format are known here. */
export function isKnown(format: string): boolean {
  return [...format.matchAll(/%(.)/g)].every(([, name]) => name !== undefined && name in DIRECTIVES);
}

/** Milliseconds since 1970 of a date or time in a format; NaN where it is none. */
export function momentOf(text: string, format: string): number {
  const pattern = format.replace(/%(.)|[.*+?^${}()|[\]\\]/g, (all, name) => (name ? `(?<${name}>${DIRECTIVES[name]?.[0]})` : `\\${all}`));
  const found = new RegExp(`^${pattern}$`).exec(text)?.groups;
  if (!found) return NaN;
  const { Y = "1900", d = "1", H = "0", M = "0", S = "0", b } = found;
  const month = b ? MONTHS.findIndex((name) => name.toLowerCase() === b.toLowerCase()) : Number(found.m ?? 1) - 1;
  const moment = new Date(Date.UTC(Number(Y), month, Number(d), Number(H), Number(M), Number(S)));
  // The 31st of April would be the 1st of May.
  const same = moment.getUTCMonth() === month && moment.getUTCHours() === Number(H) && moment.getUTCMinutes() === Number(M);
  return same && Number(S) < 60 ? moment.getTime() : NaN;
}

/** A moment in a format. */
export function written(moment: Date, format: string): string {
  return format.replace(/%(.)/g, (all, name) => DIRECTIVES[name]?.[1](moment) ?? all);
}

/** The number that an amount such as $1,234.50 stands for, by its decimal sign, or a plain number; NaN where it is none. */
export function amountOf(text: string, decimal: string): number {
  const between = decimal === "," ? "." : ",";
  const pattern = `([-+]?[$€£¥₹]?\\s?-?)(?=[0-9${decimal}])([1-9][0-9]{0,2}(?:[${between}'\\xa0\\u202f][0-9]{3})+|[0-9]*)(?:[${decimal}]([0-9]+))?\\s?[$€£¥₹%]?`;
  const isNegative = text.startsWith("(") && text.endsWith(")");
  const found = new RegExp(`^${pattern}$`).exec(isNegative ? text.slice(1, -1) : text);
  if (!found) return Number(text);
  const [, before = "", whole = "", fraction = "0"] = found;
  const value = Number(`${whole.replace(/[^0-9]/g, "")}.${fraction}`);
  return isNegative || before.includes("-") ? -value : value;
}
