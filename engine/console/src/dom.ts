// Elements, made one by one. Text is always text: nothing here reads markup from a string.

export type Child = Node | string | number | null | undefined | false | Child[];
type Listener = (event: Event) => void;
type Attributes = Record<string, string | number | boolean | Listener | null | undefined>;

const SVG = "http://www.w3.org/2000/svg";

function fill(element: Element, attributes: Attributes, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
}

function append(element: Element, children: Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.append(child);
    else if (child !== null && child !== undefined && child !== false) element.append(String(child));
  }
}

/** An element with attributes, listeners (functions) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  fill(element, attributes, children);
  return element;
}

/** The same for drawings. */
export function svg(name: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS(SVG, name) as SVGElement;
  fill(element, attributes, children);
  return element;
}

/** Puts other children in an element's place. What had the focus has it afterwards, by its `data-key`. */
export function replace(element: Element, ...children: Child[]): void {
  const active = document.activeElement;
  const key = active && element.contains(active) ? active.getAttribute("data-key") : null;
  const rest = document.createElement("div");
  append(rest, children);
  element.replaceChildren(...rest.childNodes);
  if (key !== null) element.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export interface Column {
  head: string;
  /** Set to the right, with figures of equal width. */
  number?: boolean;
  /** Left out on narrow screens. */
  wide?: boolean;
}

/** A table. It scrolls by itself where it is too wide, also by keyboard. */
export function table(caption: string, columns: Column[], rows: Child[][], classes: string[] = []): HTMLElement {
  const kind = (column: Column | undefined) => `${column?.number ? "number " : ""}${column?.wide ? "wide" : ""}`.trim() || null;
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption, "data-key": `table ${caption}` },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: kind(column) }, column.head)))),
      h(
        "tbody",
        {},
        rows.map((row, at) =>
          h("tr", { class: classes[at] || null }, row.map((cell, place) => h("td", { class: kind(columns[place]) }, cell))),
        ),
      ),
    ),
  );
}

/** A state in a word, with a mark, so that colour is never all that tells. */
export function badge(kind: "good" | "warn" | "bad" | "idle", text: string): HTMLElement {
  const mark = { good: "●", warn: "▲", bad: "✕", idle: "○" }[kind];
  return h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, mark), " ", text);
}

/** What stands where nothing is yet, or nothing is at all. */
export function note(text: Child, kind = ""): HTMLElement {
  return h("p", { class: `note ${kind}` }, text);
}
