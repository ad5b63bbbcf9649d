// Numbers, times and elements as a person reads them; used by every view.
import { now } from "./clock.js";

const counts = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const rough = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 4 });
const times = { today: new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }),
                other: new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }) };
const exact = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 6 });

/** A count such as 12,345; "–" when it is not known. */
export const count = (n) => (n === undefined || n === null ? "–" : counts.format(n));

/** A measured value, at most six digits. */
export const value = (x) => (x === undefined || x === null ? "–" : exact.format(x));

/** A limit of what is normal: four digits tell enough. */
export const limit = (x) => (x === undefined || x === null ? "–" : rough.format(x));

/** "1 site", "2 sites". */
export const some = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

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
  const today = new Date(ms).toDateString() === new Date(now()).toDateString();
  return times[today ? "today" : "other"].format(ms);
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

/** A list of figures: [label, text, is it bad]; kind: "wide" for longer texts. */
export function figures(rows, kind = "") {
  return element("dl", { class: `figures ${kind}`.trim() }, ...rows.map(([label, text, bad]) =>
    element("div", { class: bad ? "bad" : undefined }, element("dt", {}, label), element("dd", {}, text))));
}

/** What of a long list is shown, as elements, and a last one that says how many are not. */
export function atMost(most, list, shown, rest) {
  const more = list.length > most ? [element("li", { class: "quiet" }, `and ${some(list.length - most, rest)} more`)] : [];
  return [...list.slice(0, most).map(shown), ...more];
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
      for (const name of node.getAttributeNames()) {
        if (there.getAttribute(name) !== node.getAttribute(name)) there.setAttribute(name, node.getAttribute(name));
      }
      fill(there, ...node.childNodes);
    }
  });
}
