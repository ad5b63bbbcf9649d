// What is looked at: device, field and time, kept in the address, so that it can be linked and comes back.
import { now } from "./clock.js";

const MINUTE_MS = 60_000;

/** Ranges that end now: name, what the button says, length in ms. */
export const RANGES = [
  ["10m", "10 min", 10 * MINUTE_MS], ["1h", "1 h", 60 * MINUTE_MS], ["6h", "6 h", 360 * MINUTE_MS],
  ["1d", "1 day", 1440 * MINUTE_MS], ["7d", "7 days", 10080 * MINUTE_MS], ["30d", "30 days", 43200 * MINUTE_MS],
];
const LISTENERS = new Set();

/** {site, device, field, range, from, to}; from and to (ms) only while zoomed in. */
export function place() {
  const query = new URLSearchParams(location.hash.slice(1));
  const number = (name) => (/^\d{12,14}$/.test(query.get(name) ?? "") ? Number(query.get(name)) : undefined);
  const range = RANGES.some(([name]) => name === query.get("range")) ? query.get("range") : "10m";
  const [from, to] = [number("from"), number("to")];
  const zoomed = from !== undefined && to !== undefined && from < to;
  return { site: query.get("site") ?? undefined, device: query.get("device") ?? undefined,
           field: query.get("field") ?? undefined, range, from: zoomed ? from : undefined, to: zoomed ? to : undefined };
}

/** Go there: what is named changes, undefined and null take away. */
export function go(changes) {
  const now = { ...place(), ...changes };
  const query = new URLSearchParams();
  for (const name of ["site", "device", "field", "range", "from", "to"]) {
    if (now[name] !== undefined && now[name] !== null) query.set(name, now[name]);
  }
  if (location.hash.slice(1) === query.toString()) return;
  history.pushState(null, "", `#${query}`);
  LISTENERS.forEach((listener) => listener());
}

/** Be told when the place changes, by `go` or by the browser's back and forward. */
export function watch(listener) {
  LISTENERS.add(listener);
  addEventListener("popstate", listener);
}

/** [from, to] in ms. */
export function times(here) {
  if (here.from !== undefined) return [here.from, here.to];
  const to = now();
  return [to - RANGES.find(([name]) => name === here.range)[2], to];
}
