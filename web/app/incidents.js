// Incidents, open ones first. From GET /incidents.
import { count, element, fill, link, moment, value } from "./words.js";

const REASONS = { spike: "a value far off", shift: "a new level", flat: "it stands still", unusual: "seldom seen like this" };
const AROUND_MS = 300_000;

function line(one) {
  const open = one.state !== "closed";
  const band = one.low === undefined || one.low === null ? "" : `, normally ${value(one.low)} to ${value(one.high)}`;
  const around = { site: one.site, device: one.device, field: one.field, from: one.opened - AROUND_MS,
                   to: (one.closed ?? one.seen ?? one.opened) + AROUND_MS };
  return element("li", {},
    element("div", { class: "row" },
      link(`${one.device} · ${one.field}`, around),
      element("span", { class: `chip ${open ? "bad" : "quiet"}` }, open ? "open" : "closed")),
    element("div", {}, `${REASONS[one.reason] ?? one.reason ?? "unusual"}: peak ${value(one.peak)}${band}`),
    element("div", { class: "quiet" }, `${one.site} · since ${moment(one.opened)} · ${count(one.count)} anomalies · ${one.severity ?? ""}`));
}

/** Draw the list. */
export function show(target, incidents) {
  if (!incidents.length) fill(target, element("li", { class: "quiet" }, "None today."));
  else fill(target, ...incidents.slice(0, 20).map(line));
}
