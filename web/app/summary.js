// In short, for who glances: does everything arrive, is everything normal? From the same answers as the parts below.
import { isOpen, toIncident } from "./incidents.js";
import { health, isSilent, missing } from "./sites.js";
import { atMost, count, element, fill, moment, some } from "./words.js";

const MOST = 3, SIGNS = { good: "✓", warn: "!", bad: "!", quiet: "–" };
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const line = (...words) => element("li", {}, ...words);

/** kind: good, warn, bad, or quiet: not known. */
const tile = (kind, headline, lines) => ({ kind, headline, lines });
const drawn = ({ kind, headline, lines }) => element("div", { class: `tile ${kind}` },
  element("p", { class: `headline ${kind}` }, element("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]), ` ${headline}`),
  element("ul", {}, ...lines));

/** Has everything arrived? Nothing in it counts time: a screen reader says it anew whenever it changes. overdue: {device,
 * since} of the readings that are looked at, if they stay away, whatever the bridge told of itself last. */
function delivery(sites, overdue) {
  if (!sites.length) return tile("quiet", "No site yet", [line("Start a bridge, or make demo.")]);
  const troubled = sites.map((site) => ({ site: site.site, ...health(site) })).filter((one) => one.kind !== "good");
  if (troubled.length) {
    const worst = troubled.some((one) => one.kind === "bad") ? "bad" : "warn";
    const headline = sites.length === 1 ? `${troubled[0].site}: ${troubled[0].word}` : `${count(troubled.length)} of ${some(sites.length, "site")} not well`;
    return tile(worst, headline, atMost(MOST, troubled, (one) => line(`${one.site}: ${one.why}`), "site"));
  }
  if (overdue) return tile("warn", "Readings stay away", [line(`None of ${overdue.device} since ${moment(overdue.since)}`)]);
  const devices = sites.reduce((n, site) => n + (site.devices?.length ?? 0) + (site.devices_left_out ?? 0), 0);
  const gone = sites.reduce((n, site) => n + missing(site), 0);
  return tile("good", "Everything arrives", [line(`${some(sites.length, "site")}, ${some(devices, "device")}`),
    line(gone ? `${some(gone, "reading")} missing since the bridges were set up` : "No reading is missing.")]);
}

/** Is what is measured normal? Of a site that is silent nobody knows. */
function measured(incidents, sites) {
  const open = incidents.filter(isOpen), silent = sites.filter(isSilent).length;
  if (!open.length) {
    const known = silent < sites.length;
    return tile(known ? "good" : "quiet", known ? "Nothing unusual" : "Measurements not known",
      [line(incidents.length ? `${some(incidents.length, "incident")} today, over` : "No incident today"),
       silent && known ? line(`Of ${some(silent, "silent site")} nothing is known.`) : null].filter(Boolean));
  }
  const worst = open.some((one) => one.severity === "critical") ? "bad" : "warn";
  return tile(worst, `${some(open.length, "open incident")}`,
    atMost(MOST, open, (one) => line(toIncident(one), one.severity ? ` ${one.severity}` : ""), "incident"));
}

/** Draw it. fault: why there is no news; heardMs: when there was news last, 0: never;
 * overdue: as delivery has it. */
export function show(target, { sites, incidents, overdue, fault, heardMs }) {
  const since = heardMs ? `What is below is as of ${moment(heardMs)}.` : "Asking again …";
  const tiles = fault ? [tile("bad", "Not up to date", [line(capital(fault)), line(since)])]
    : [delivery(sites, overdue), measured(incidents, sites)];
  fill(target, ...tiles.map(drawn));
  const trouble = tiles.find(({ kind }) => kind === "bad" || kind === "warn");
  document.title = trouble ? `! ${trouble.headline} · EdgeCloud` : "EdgeCloud";
}
