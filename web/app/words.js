// Numbers, times and elements as a person reads them; used by every view.

const counts = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const exact = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6 });

/** A count such as 12,345; "–" when it is not known. */
export const count = (n) => (n === undefined || n === null ? "–" : counts.format(n));

/** A measured value, at most six digits. */
export const value = (x) => (x === undefined || x === null ? "–" : exact.format(x));

/** A length of time, from seconds. */
export function span(s) {
  if (s === undefined || s === null) return "–";
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  if (s < 86400 * 730) return `${Math.round(s / 86400)} days`;
  return `${Math.round(s / 86400 / 365)} years`;
}

/** A moment (ms since 1970): the time, with the date when it is not today. */
export function moment(ms) {
  const at = new Date(ms);
  const today = at.toDateString() === new Date().toDateString();
  return at.toLocaleString(undefined, today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" });
}

/** An element with attributes and children; text is only ever set as text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, given] of Object.entries(attributes)) {
    if (given !== undefined && given !== false) made.setAttribute(key, given === true ? "" : given);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

/** A list of figures: [label, text, is it bad]. */
export function figures(rows) {
  return element("dl", { class: "figures" }, ...rows.map(([label, text, bad]) =>
    element("div", { class: bad ? "bad" : undefined }, element("dt", {}, label), element("dd", {}, text))));
}

/** A button that leads to a place (see place.js); main.js listens for all of them, so that they may be redrawn. */
export const link = (text, place, pressed) =>
  element("button", { type: "button", class: "link", "data-go": JSON.stringify(place), "aria-pressed": pressed ? "true" : undefined }, text);

/** Let an element have these children. What is there already stays and is brought to the new state, so that focus, what
 * is selected and a screen reader's place stay, too. */
export function fill(target, ...children) {
  const wanted = children.filter((child) => child !== undefined && child !== null);
  while (target.childNodes.length > wanted.length) target.lastChild.remove();
  wanted.forEach((child, at) => {
    const node = typeof child === "string" ? document.createTextNode(child) : child;
    const there = target.childNodes[at];
    if (!there) target.append(node);
    else if (there.nodeName !== node.nodeName) there.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) { if (there.data !== node.data) there.data = node.data; }
    else {
      for (const name of there.getAttributeNames()) if (!node.hasAttribute(name)) there.removeAttribute(name);
      for (const name of node.getAttributeNames()) if (there.getAttribute(name) !== node.getAttribute(name)) there.setAttribute(name, node.getAttribute(name));
      fill(there, ...node.childNodes);
    }
  });
}
