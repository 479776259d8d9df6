// Elements by id, new elements, and numbers as people read them.

export function get<T extends HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`No element ${id}.`);
  return element as T;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function makeSvg(name: string, attributes: Record<string, string | number>): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

const FORMAT = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

export function show(value: number): string {
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e7)) return value.toExponential(2);
  return FORMAT.format(value).replace("-", "\u2212");
}

/** A number that a program can read in full, and a person rounded. */
export function number(value: number): HTMLDataElement {
  return make("data", { value: String(value), title: String(value) }, show(value));
}
