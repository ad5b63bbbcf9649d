// What is looked at: device, field and time; the controls to choose them, their chart and their table.
import * as api from "./api.js";
import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { patience } from "./gaps.js";
import * as measurement from "./measurement.js";
import { bands } from "./normal.js";
import { at, due, say } from "./page.js";
import { RANGES, go, place, times } from "./place.js";
import { element, moment } from "./words.js";

const OFTEN_MS = 0, SELDOM_MS = 10_000, LONG_MS = 3_600_000;  // of more than an hour a turn changes nothing to be seen
const PAST_MS = 60_000;  // what ended so long ago changes no more
const NEWEST = 20;  // readings, whose pauses are usual now
const looked = { key: "", found: null, chart: null };

/** The devices that send readings. */
export const measuring = (devices) => devices.filter((one) => one.kinds.includes("readings"));

/** What is selected, with what is there to stand in for what the address does not say. */
export function seen(devices) {
  const here = place(), measured = measuring(devices);
  const known = measured.find((one) => one.device === here.device && (!here.site || one.site === here.site)) ?? measured[0];
  return { ...here, site: known?.site, device: known?.device };
}

function options(select, chosen, names) {
  const key = JSON.stringify(names);
  if (select.dataset.names !== key) {
    select.dataset.names = key;
    select.replaceChildren(...names.map(([given, text]) => element("option", { value: given }, text)));
  }
  select.value = chosen ?? "";
}

function controls(here, devices) {
  const names = measuring(devices).map((one) => [`${one.site}/${one.device}`, `${one.device} (${one.site})`]);
  options(at("device"), here.device && `${here.site}/${here.device}`, names);
  const zoomed = here.from !== undefined;
  at("whole").hidden = !zoomed;
  for (const button of at("ranges").children) button.setAttribute("aria-pressed", String(!zoomed && button.dataset.range === here.range));
}

const keyOf = (here) => JSON.stringify([here.site, here.device, here.field, here.range, here.from, here.to]);

/** Draw it, if there may be something new. devices, sites, incidents: as the API told them, null: not yet. */
export async function draw({ devices, sites, incidents }) {
  if (!devices) return;
  const here = seen(devices);
  controls(here, devices);
  if (!here.device) {
    say("chart-state", "No device has sent readings yet.");
    return;
  }
  const [from, to] = times(here), wanted = keyOf(here), moved = wanted !== looked.key;
  if (moved) {
    at("chart").classList.add("waiting");
    say("chart-state", "loading …");
  } else if (!due("measurement", to - from > LONG_MS ? SELDOM_MS : OFTEN_MS) || (here.from !== undefined && to < now() - PAST_MS)) {
    return;
  }
  const found = await measurement.load(here, from, to, bands(here, sites ?? [], incidents ?? []));
  const nothing = found.n || !(moved || due("newest", SELDOM_MS)) ? "" : await whenLast(here);
  if (wanted !== keyOf(seen(devices))) return; // somebody has moved on meanwhile
  looked.key = wanted;
  if (found.n || nothing) say("chart-state", nothing);
  show(found, from, to);
}

function show(found, from, to) {
  looked.found = found;
  at("chart").classList.remove("waiting");
  options(at("field"), found.field, found.fields.map((name) => [name, name]));
  say("told", found.n ? found.words : "");
  looked.chart.draw({ ...found, from, to });
  at("chart").dataset.newest = found.times.at(-1) ?? "";  // ms: what is measured of the page's delay
  table();
}

/** When the newest of the readings that are looked at was made, ms, if the next one is overdue by more than leastMs; else
 * 0, also where what is looked at is past. */
export function overdueSince(leastMs) {
  const newest = looked.found?.measured && place().from === undefined ? looked.found.measured.slice(-NEWEST) : [];
  if (newest.length < 2) return 0;
  const last = newest.at(-1);
  return now() - last > patience(newest, leastMs) ? last : 0;
}

/** What to say where nothing is: when there was something last. */
async function whenLast({ site, device }) {
  const [newest] = (await api.newest(site, device, 1)).readings;
  return `There is no reading of this time.${newest ? ` The newest is of ${moment(newest.at)}.` : ""}`;
}

function table() {
  if (looked.found && at("as-table").open) measurement.table(at("as-table").querySelector("div"), looked.found);
}

/** It could not be loaded: said where it would be. What was drawn before stays, marked as such. */
export function failed(why) {
  if (at("chart").classList.contains("waiting")) say("chart-state", `not loaded: ${why}`);
}

/** All of it anew at the next turn. */
export function again() {
  looked.key = "";
}

/** Let what is on the page be used. */
export function wire() {
  looked.chart = new Chart(at("chart"), { height: 280, label: "Measurement", zoom: (from, to) => go({ from, to }) });
  at("ranges").append(...RANGES.map(([name, text]) => element("button", {
    type: "button", "data-range": name, "data-go": JSON.stringify({ range: name, from: null, to: null }) }, text)));
  at("device").addEventListener("change", (event) => {
    const [site, ...device] = event.target.value.split("/");
    go({ site, device: device.join("/"), field: undefined });
  });
  at("field").addEventListener("change", (event) => go({ field: event.target.value }));
  at("whole").addEventListener("click", () => go({ from: undefined, to: undefined }));
  at("as-table").addEventListener("toggle", table);
}
