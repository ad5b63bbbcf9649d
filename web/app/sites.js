// Sites and their devices: health at the top, then the ledger. From GET /status.
import { place } from "./place.js";
import { count, element, figures, fill, link, span } from "./words.js";

const SILENT_S = 120, BEHIND_S = 60;

/** [class, word, sentence] of a site's health, the worst that is true. */
export function health(site) {
  const alarms = Object.keys(site.alarms ?? {});
  const lost = (site.lost ?? 0) + (site.dropped ?? 0);
  const down = Object.entries(site.connected ?? {}).filter(([, up]) => !up).map(([side]) => side);
  if (site.age_s > SILENT_S) return ["bad", "silent", `nothing heard from its bridge for ${span(site.age_s)}`];
  if (alarms.length) return ["bad", "alarm", alarms.join(", ").replaceAll("_", " ")];
  if (site.oldest_unsent_s > BEHIND_S) return ["warn", "behind", `the oldest unsent reading is ${span(site.oldest_unsent_s)} old`];
  if (down.length) return ["warn", "partly connected", `not connected: ${down.join(", ")}`];
  if (lost) return ["warn", "well, with losses", `${count(lost)} readings were dropped or lost`];
  return ["good", "well", `heard ${span(site.age_s)} ago`];
}

function devices(site, seen) {
  const rows = (site.devices ?? []).map((one) => {
    const chosen = seen.site === site.site && seen.device === one.device;
    return element("tr", {},
      element("th", { scope: "row" }, link(one.device, { site: site.site, device: one.device, field: null, from: null, to: null }, chosen)),
      ...[one.delivered, one.waiting, one.anomalies ?? 0, one.dropped + (one.gaps ?? 0)].map((n) => element("td", { class: "number" }, count(n))));
  });
  if (!rows.length) return element("p", { class: "quiet" }, "No device has sent anything yet.");
  const heads = ["Device", "Delivered", "Waiting", "Anomalies", "Missing"];
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {},
    ...heads.map((head, at) => element("th", { scope: "col", class: at ? "number" : undefined }, head)))), element("tbody", {}, ...rows)));
}

function card(site, seen) {
  const [kind, word, sentence] = health(site);
  const waiting = Object.values(site.waiting ?? {}).reduce((a, b) => a + b, 0);
  const alarms = Object.entries(site.alarms ?? {}).map(([name, text]) => element("li", {}, `${name.replaceAll("_", " ")}: ${text}`));
  return element("article", { class: "card", "aria-label": `Site ${site.site}` },
    element("div", { class: "row" }, element("h3", {}, site.site), element("span", { class: `health ${kind}` }, word)),
    element("p", { class: "quiet" }, sentence),
    figures([["Delivered", count(site.delivered)], ["Waiting", count(waiting)],
             ["Dropped", count(site.dropped), site.dropped > 0], ["Dead-lettered", count(site.dead_lettered), site.dead_lettered > 0],
             ["Outage budget", site.outage_budget_h === null || site.outage_budget_h === undefined ? "–" : span(site.outage_budget_h * 3600)],
             ["Drained in", waiting ? span(site.drain_eta_s) : "nothing waits"],
             ["Certificate", site.certificate_days === null || site.certificate_days === undefined ? "–" : span(site.certificate_days * 86400)]]),
    alarms.length ? element("ul", { class: "alarms" }, ...alarms) : null,
    devices(site, seen));
}

/** Draw the cards. */
export function show(target, sites) {
  const seen = place();
  if (!sites.length) {
    fill(target, element("p", { class: "card quiet" }, "No site has told anything yet: start a bridge, or make demo."));
    return;
  }
  const worst = ["bad", "warn", "good"];
  const sorted = [...sites].sort((a, b) => worst.indexOf(health(a)[0]) - worst.indexOf(health(b)[0]) || a.site.localeCompare(b.site));
  fill(target, ...sorted.map((site) => card(site, seen)));
}
