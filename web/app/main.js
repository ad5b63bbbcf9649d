// The page: asks the API while it is looked at, newest readings most often, and hands each view what it draws.
import * as api from "./api.js";
import { Chart } from "./chart.js";
import { arrive, forget, signIn, signOut, token } from "./login.js";
import * as figures from "./figures.js";
import * as incidentsView from "./incidents.js";
import * as measurement from "./measurement.js";
import * as persons from "./persons.js";
import { RANGES, go, place, times, watch } from "./place.js";
import * as sitesView from "./sites.js";
import { element, moment } from "./words.js";

// A bridge that knows it is watched sends twice a second.
const EVERY_MS = 500, OFTEN_MS = 3000, SLOW_MS = 10_000, LIVE_MS = 60_000, COST_MS = 300_000;
const THEMES = [["", "◐", "as the system's"], ["light", "☀", "light"], ["dark", "☾", "dark"]];
const at = (id) => document.getElementById(id);

const state = { config: null, sites: [], devices: [], incidents: [], heard: 0, busy: false, drawn: "", due: {} };
let chart;

/** Whether something slower is due again; `again` makes it so at the next turn. */
function due(what, everyMs) {
  if (Date.now() < (state.due[what] ?? 0)) return false;
  state.due[what] = Date.now() + everyMs;
  return true;
}

function linkTold(text, kind = "") {
  const link = at("link");
  if (link.textContent !== text) link.textContent = text;
  link.className = kind;
}

function showSignIn(reason) {
  const first = at("sign-in").hidden;
  at("content").hidden = true;
  at("sign-out").hidden = true;
  at("sign-in").hidden = false;
  at("sign-in-now").hidden = !state.config;
  if (reason || first) at("sign-in-reason").textContent = reason;  // what was said stays, until somebody signs in
  linkTold("not signed in");
}

function showContent() {
  at("sign-in").hidden = true;
  at("content").hidden = false;
  at("sign-out").hidden = false;
}

/** What is selected, with what is there to stand in for what the address does not say. */
function seen() {
  const here = place();
  const measured = state.devices.filter((one) => one.kinds.includes("readings"));
  const known = measured.find((one) => one.device === here.device && (!here.site || one.site === here.site)) ?? measured[0];
  return { ...here, site: known?.site, device: known?.device, measured };
}

function options(select, chosen, names) {
  const key = JSON.stringify(names);
  if (select.dataset.names !== key) {
    select.dataset.names = key;
    select.replaceChildren(...names.map(([given, text]) => element("option", { value: given }, text)));
  }
  select.value = chosen ?? "";
}

function controls(here) {
  options(at("device"), here.device && `${here.site}/${here.device}`, here.measured.map((one) => [`${one.site}/${one.device}`, `${one.device} (${one.site})`]));
  const zoomed = here.from !== undefined;
  at("whole").hidden = !zoomed;
  for (const button of at("ranges").children) button.setAttribute("aria-pressed", String(!zoomed && button.dataset.range === here.range));
}

/** The band that was normal at this device's newest anomaly: incidents carry it. */
function band(here, field) {
  const found = state.incidents.find((one) => one.site === here.site && one.device === here.device && one.field === (field ?? "sensor2") && one.low !== undefined && one.low !== null);
  return found ? [found.low, found.high] : null;
}

const key = (here) => JSON.stringify([here.site, here.device, here.field, here.range, here.from, here.to]);

async function drawMeasurement() {
  const here = seen();
  controls(here);
  if (!here.device) {
    at("chart-state").textContent = "No device has sent readings yet.";
    return;
  }
  const [from, to] = times(here), wanted = key(here);
  const moved = wanted !== state.drawn;
  if (moved) {
    at("chart").classList.add("waiting");
    at("chart-state").textContent = "loading …";
  } else if (!due("measurement", to - from > 3_600_000 ? SLOW_MS : 0) || (here.from !== undefined && to < Date.now() - 60_000)) {
    return;
  }
  const found = await measurement.load(here, from, to, band(here, here.field));
  if (wanted !== key(seen())) return; // somebody has moved on meanwhile
  state.drawn = wanted;
  at("chart").classList.remove("waiting");
  options(at("field"), found.field, found.fields.map((name) => [name, name]));
  at("told").textContent = found.rows.length ? found.words : "";
  at("chart-state").textContent = found.rows.length ? "" : "Nothing was received in this time.";
  chart.draw({ ...found, from, to });
  at("chart").dataset.newest = found.times.at(-1) ?? "";  // ms: what is measured of the page's delay
  if (at("as-table").open) measurement.table(at("as-table").querySelector("div"), found);
  state.found = found;
}

async function drawPersons() {
  const cameras = state.devices.filter((one) => one.kinds.includes("events"));
  const [from, to] = times(place());
  if (!due("persons", SLOW_MS) && state.personsOf === JSON.stringify(place())) return;
  state.personsOf = JSON.stringify(place());
  const newest = cameras.length ? await api.events(200) : [];
  const series = await Promise.all(cameras.map(async (camera) => {
    const rows = (await api.rollups(camera.site, camera.device, from, to)).filter((row) => row.fields.persons_detected);
    return { camera, newest: newest.find((one) => one.device_id === camera.device), times: rows.map((row) => measurement.startOf(row)),
             means: rows.map((row) => row.fields.persons_detected.mean) };
  }));
  persons.show(at("persons"), series, from, to);
}

/** Readings received this month: by days, today by hours, this hour by minutes; coarser roll-ups are some minutes late. */
async function readingsThisMonth() {
  const now = new Date(), [year, month, day, hour] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate(), now.getUTCHours()];
  const parts = [["day", Date.UTC(year, month, 1), Date.UTC(year, month, day)], ["hour", Date.UTC(year, month, day), Date.UTC(year, month, day, hour)],
                 ["minute", Date.UTC(year, month, day, hour), now.getTime()]];
  let sum = 0;
  for (const one of state.devices.filter((device) => device.kinds.includes("readings"))) {
    for (const [resolution, from, to] of parts) {
      if (from >= to) continue;
      const rows = await api.rollups(one.site, one.device, from, to, resolution);
      sum += rows.reduce((n, row) => n + Math.max(0, ...Object.values(row.fields).map((total) => total.n)), 0);
    }
  }
  return sum;
}

/** What it cost; config.json is read again until it has prices. It is asked for beside the turns: with many devices it takes a while. */
async function drawCost() {
  if (!state.config.cost) state.config = await api.configuration();
  figures.cost(at("cost"), state.config, await readingsThisMonth());
}

/** Tell the bridges that somebody watches. A site whose bridge cannot be told is shown all the same, somewhat later. */
async function keepLive() {
  const told = await Promise.allSettled(state.sites.map((site) => api.live(site.site)));
  state.slow = told.some((one) => one.status === "rejected");
}

/** One turn: everything that is due, in the order in which a person looks. */
async function turn() {
  if (due("status", OFTEN_MS)) state.sites = await api.status();
  if (due("devices", SLOW_MS)) state.devices = await api.devices();
  if (due("incidents", OFTEN_MS)) state.incidents = await api.incidents();
  showContent();
  sitesView.show(at("sites"), state.sites);
  incidentsView.show(at("incidents"), state.incidents);
  figures.carbon(at("carbon"), state.sites);
  await drawMeasurement();
  if (due("live", LIVE_MS)) await keepLive();
  await drawPersons();
  if (due("cost", state.config.cost ? COST_MS : SLOW_MS)) drawCost().catch(fault);
  state.heard = Date.now();
  linkTold(state.slow ? "up to date, some seconds late" : "up to date", "good");
}

/** Say what went wrong; what is drawn stays, with the time of which it is. */
function fault(reason) {
  state.due = {};  // all of it is due again
  if (reason instanceof api.SignInNeeded) {
    showSignIn(reason.message === "nobody is signed in" ? "" : reason.message);
    return;
  }
  const what = !navigator.onLine ? "this machine is offline" : reason instanceof api.ApiError ? reason.message : `a fault of this page: ${reason.message}`;
  linkTold(`${what}${state.heard ? ` · as of ${moment(state.heard)}` : ""}`, "bad");
  if (!state.heard) at("chart-state").textContent = what;
  if (!(reason instanceof api.ApiError)) console.error(reason);
}

async function refresh() {
  if (state.busy || document.hidden || !state.config) return;
  state.busy = true;
  try {
    await turn();
  } catch (reason) {
    fault(reason);
  } finally {
    state.busy = false;
  }
}

function theme(next) {
  const kept = localStorage.getItem("edgecloud.theme") ?? "";
  const index = (THEMES.findIndex(([name]) => name === kept) + (next ? 1 : 0) + THEMES.length) % THEMES.length;
  const [name, sign, words] = THEMES[index];
  localStorage.setItem("edgecloud.theme", name);
  document.documentElement.dataset.theme = name;
  at("theme").textContent = sign;
  at("theme").setAttribute("aria-label", `Colours: ${words}`);
  if (state.found) { state.drawn = ""; refresh(); }
}

function wire() {
  chart = new Chart(at("chart"), { height: 280, label: "Measurement", zoom: (from, to) => go({ from, to }) });
  at("ranges").append(...RANGES.map(([name, text]) => element("button", { type: "button", "data-range": name, "data-go": JSON.stringify({ range: name, from: null, to: null }) }, text)));
  document.addEventListener("click", (event) => {
    const led = event.target.closest("[data-go]");
    if (led) go(JSON.parse(led.dataset.go));
  });
  at("device").addEventListener("change", (event) => {
    const [site, ...device] = event.target.value.split("/");
    go({ site, device: device.join("/"), field: undefined });
  });
  at("field").addEventListener("change", (event) => go({ field: event.target.value }));
  at("whole").addEventListener("click", () => go({ from: undefined, to: undefined }));
  at("as-table").addEventListener("toggle", () => { if (state.found) measurement.table(at("as-table").querySelector("div"), state.found); });
  at("theme").addEventListener("click", () => theme(true));
  at("sign-in-now").addEventListener("click", () => signIn(state.config));
  at("sign-out").addEventListener("click", () => signOut(state.config));
  watch(() => { state.due.status = state.due.measurement = 0; refresh(); });
  addEventListener("online", refresh);
  addEventListener("offline", refresh);
  document.addEventListener("visibilitychange", () => { state.due.live = 0; refresh(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(false));
}

async function begin() {
  wire();
  theme(false);
  try {
    state.config = await api.configuration();
    await arrive(state.config);
    if (!(await token(state.config))) showSignIn("");
  } catch (reason) {
    forget();
    showSignIn(reason.message);
  }
  if (state.config) await refresh();
  setInterval(refresh, EVERY_MS);
}

begin();
