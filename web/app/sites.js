// Sites and their devices: how each is, why, and its ledger. From GET /status.
import { place } from "./place.js";
import { count, element, figures, fill, link, some, span } from "./words.js";

const SILENT_S = 120, BEHIND_S = 60;
const words = (name) => name.replaceAll("_", " ");

/** Is nothing heard from its bridge? */
export const isSilent = (site) => site.age_s > SILENT_S;

/** Readings and events that will not come any more: dropped by the bridge, lost with its disk, skipped by a publisher. */
export const missing = (site) => (site.dropped ?? 0) + (site.lost ?? 0) + (site.skipped ?? 0);

/** {kind: good|warn|bad, word, why, sentence} of a site's health, the worst that is true; the sentence has times in it. */
export function health(site) {
  const alarms = Object.keys(site.alarms ?? {});
  const down = Object.entries(site.connected ?? {}).filter(([, up]) => !up).map(([side]) => side);
  const told = (kind, word, why, sentence = why) => ({ kind, word, why, sentence });
  if (isSilent(site)) {
    return told("bad", "silent", "nothing is heard from its bridge", `nothing heard from its bridge for ${span(site.age_s)}`);
  }
  if (alarms.length) return told("bad", "alarm", alarms.map(words).join(", "));
  if (site.oldest_unsent_s > BEHIND_S) {
    return told("warn", "behind", "readings wait to be sent", `the oldest unsent reading is ${span(site.oldest_unsent_s)} old`);
  }
  if (down.length) return told("warn", "partly connected", `not connected: ${down.join(", ")}`);
  const heard = `heard ${span(site.age_s)} ago`;
  const gone = missing(site) ? `; ${some(missing(site), "reading")} missing since its bridge was set up` : "";
  return told("good", "well", "well", heard + gone);
}

function devices(site, measuring) {
  const seen = place();
  const rows = (site.devices ?? []).map((one) => {
    const chosen = seen.site === site.site && seen.device === one.device;
    const name = measuring(site.site, one.device)
      ? link(one.device, { site: site.site, device: one.device, field: null, from: null, to: null }, chosen) : one.device;
    return element("tr", {}, element("th", { scope: "row" }, name),
      ...[one.delivered, one.waiting, one.anomalies ?? 0, one.dropped + (one.gaps ?? 0)].map((n) => element("td", { class: "number" }, count(n))));
  });
  if (!rows.length) return element("p", { class: "quiet" }, "No device has sent anything yet.");
  const heads = ["Device", "Delivered", "Waiting", "Anomalies", "Missing"];
  const left = site.devices_left_out ? element("p", { class: "quiet" }, `and ${some(site.devices_left_out, "device")} more`) : null;
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {},
    ...heads.map((head, at) => element("th", { scope: "col", class: at ? "number" : undefined }, head)))), element("tbody", {}, ...rows)), left);
}

/** When the backlog is gone: what was committed a moment ago and is on its way is none. */
function drained(site) {
  if (!site.waiting?.backfill) return "no backlog";
  return site.drain_eta_s === null || site.drain_eta_s === undefined ? "not foreseen" : span(site.drain_eta_s);
}

const spanOf = (n, unitS) => (n === null || n === undefined ? "–" : span(n * unitS));

function card(site, measuring) {
  const { kind, word, sentence } = health(site);
  const waiting = Object.values(site.waiting ?? {}).reduce((a, b) => a + b, 0);
  const alarms = Object.entries(site.alarms ?? {}).map(([name, text]) => element("li", {}, `${words(name)}: ${text}`));
  return element("article", { class: "card", "aria-label": `Site ${site.site}` },
    element("div", { class: "row" }, element("h3", {}, site.site), element("span", { class: `health ${kind}` }, word)),
    element("p", { class: "quiet" }, sentence),
    figures([["Delivered", count(site.delivered)], ["Waiting", count(waiting)],
             ["Dropped", count(site.dropped), site.dropped > 0], ["Dead-lettered", count(site.dead_lettered), site.dead_lettered > 0],
             ["Outage budget", spanOf(site.outage_budget_h, 3600)], ["Drained in", drained(site)],
             ["Certificate", spanOf(site.certificate_days, 86400)]]),
    alarms.length ? element("ul", { class: "alarms" }, ...alarms) : null,
    devices(site, measuring));
}

/** Draw the cards, the worst first; measuring(site, device): does it send readings, so that there is something to see? */
export function show(target, sites, measuring) {
  if (!sites.length) {
    fill(target, element("p", { class: "card quiet" }, "No site has told anything yet: start a bridge, or make demo."));
    return;
  }
  const worst = ["bad", "warn", "good"], rank = (site) => worst.indexOf(health(site).kind);
  const sorted = [...sites].sort((a, b) => rank(a) - rank(b) || a.site.localeCompare(b.site));
  fill(target, ...sorted.map((site) => card(site, measuring)));
}
