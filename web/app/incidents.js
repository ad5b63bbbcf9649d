// Incidents, open ones first. From GET /incidents.
import { atMost, element, fill, limit, link, moment, some, value } from "./words.js";

const REASONS = { spike: "a value far off", shift: "a new level", flat: "it stands still", unusual: "seldom seen like this" };
const AROUND_MS = 300_000, MOST = 20;

export const isOpen = (one) => one.state !== "closed";

/** A link to the measurement around an incident. */
export const toIncident = (one) => link(`${one.device} · ${one.field}`, {
  site: one.site, device: one.device, field: one.field, from: one.opened - AROUND_MS,
  to: (one.closed ?? one.seen ?? one.opened) + AROUND_MS });

function line(one) {
  const band = one.low === undefined || one.low === null ? "" : `, normally ${limit(one.low)} to ${limit(one.high)}`;
  const since = isOpen(one) ? `since ${moment(one.opened)}` : `${moment(one.opened)} to ${moment(one.closed)}`;
  return element("li", {},
    element("div", { class: "row" }, toIncident(one),
      element("span", { class: `chip ${isOpen(one) ? "bad" : "quiet"}` }, isOpen(one) ? "open" : "closed")),
    element("div", {}, `${REASONS[one.reason] ?? one.reason ?? "unusual"}: peak ${value(one.peak)}${band}`),
    element("div", { class: "quiet" }, [one.site, since, some(one.count, "anomaly", "anomalies"), one.severity].filter(Boolean).join(" · ")));
}

/** Draw the list. */
export function show(target, incidents) {
  if (!incidents.length) fill(target, element("li", { class: "quiet" }, "None is open, and there was none today."));
  else fill(target, ...atMost(MOST, incidents, line, "incident"));
}
