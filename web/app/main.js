// The page: asks the API while it is looked at, newest readings most often, and hands each view what it draws.
import * as api from "./api.js";
import { now, wrongMs } from "./clock.js";
import { ApiError, SignInNeeded } from "./faults.js";
import * as figures from "./figures.js";
import * as incidentsView from "./incidents.js";
import { arrive, forget, signIn, signOut, token } from "./login.js";
import * as look from "./look.js";
import { MOST_DEVICES, readingsThisMonth } from "./month.js";
import { at, due, dueNow, say } from "./page.js";
import * as persons from "./persons.js";
import { go, place, times, watch } from "./place.js";
import * as sitesView from "./sites.js";
import * as summary from "./summary.js";
import * as theme from "./theme.js";
import { moment, span } from "./words.js";

// A bridge that knows it is watched sends twice a second.
const EVERY_MS = 500, OFTEN_MS = 3000, SLOW_MS = 10_000, LIVE_MS = 60_000, COST_MS = 300_000;
const MOST_LIVE = 10;  // sites that are told: the one that is looked at first
const MOST_WAIT_MS = 30_000, STALE_MS = 10_000;

// sites, devices, incidents: null until the API has told them.
const state = { config: null, sites: null, devices: null, incidents: null, heardMs: 0, busy: false, counting: false,
                changed: true, failed: 0, again: 0 };

function linkTold(text, kind = "") {
  say("link", text);
  at("link").className = kind;
}

function showSignIn(reason) {
  const first = at("sign-in").hidden;
  at("content").hidden = at("summary").hidden = at("sign-out").hidden = true;
  at("sign-in").hidden = false;
  if (reason || first) say("sign-in-reason", reason);  // what was said stays, until somebody signs in
  linkTold("not signed in");
  document.title = "EdgeCloud";
}

function showContent() {
  at("sign-in").hidden = true;
  at("content").hidden = at("summary").hidden = at("sign-out").hidden = false;
}

async function drawPersons() {
  const here = JSON.stringify(place());
  if (!state.devices || (!due("persons", SLOW_MS) && state.personsOf === here)) return;
  const cameras = state.devices.filter((one) => one.kinds.includes("events")), [from, to] = times(place());
  const series = await persons.load(cameras, from, to);
  state.personsOf = here;
  persons.show(at("persons"), series, cameras.length - series.length, from, to);
}

/** It is added up beside the turns: with many devices it takes minutes. Prices may come later than the page. */
async function drawCost() {
  if (state.counting || !state.devices || !due("cost", state.config.cost ? COST_MS : SLOW_MS)) return;
  const devices = look.measuring(state.devices);
  if (!state.config.cost || devices.length > MOST_DEVICES) {
    const why = state.config.cost ? `More than ${MOST_DEVICES} devices are not added up here` : "Not known here";
    figures.cost(at("cost"), state.config, null, why);
    return;
  }
  state.counting = true;
  try {
    const readings = await readingsThisMonth(devices);
    if (readings !== null) figures.cost(at("cost"), state.config, readings);
  } catch (reason) {
    if (!(reason instanceof ApiError)) throw reason;
    dueNow("cost");
    due("cost", SLOW_MS);
    figures.cost(at("cost"), state.config, null, `Not added up yet (${reason.message})`);
  } finally {
    state.counting = false;
  }
}

/** Tell the bridges that somebody watches. A site whose bridge cannot be told is shown all the same, somewhat later. */
async function keepLive() {
  if (!state.sites || !due("live", LIVE_MS)) return;
  const looked = state.devices ? look.seen(state.devices).site : undefined;
  const sites = state.sites.map((site) => site.site).sort((a, b) => (b === looked) - (a === looked)).slice(0, MOST_LIVE);
  const told = await Promise.allSettled(sites.map((site) => api.live(site)));
  state.slow = told.some((one) => one.status === "rejected");
}

/** Prices, and the time: a clock may be set at any moment. Both are asked for again in a minute, so no answer is no fault. */
async function keepConfiguration() {
  if (!due("configuration", state.config.cost ? LIVE_MS : SLOW_MS)) return;
  try {
    state.config = await api.configuration();
  } catch (reason) {
    if (!(reason instanceof ApiError)) throw reason;
  }
}

/** what: "sites", "devices" or "incidents". */
async function ask(what, everyMs) {
  if (!due(what, everyMs)) return;
  state[what] = await api[what]();
  state.changed = true;
}

function show() {
  if (!state.changed) return;
  state.changed = false;
  const sends = new Set(look.measuring(state.devices ?? []).map((one) => `${one.site}#${one.device}`));
  if (state.sites) {
    sitesView.show(at("sites"), state.sites, (site, device) => sends.has(`${site}#${device}`));
    figures.carbon(at("carbon"), state.sites);
  }
  if (state.incidents) incidentsView.show(at("incidents"), state.incidents);
}

/** One turn: everything that is due, in the order in which a person looks. What is refused keeps nothing else. */
async function turn() {
  if (!(await token(state.config))) throw new SignInNeeded("nobody is signed in");
  showContent();
  const refused = [];
  for (const part of [() => ask("sites", OFTEN_MS), () => ask("devices", SLOW_MS), () => ask("incidents", OFTEN_MS), show,
                      () => look.draw(state), keepLive, drawPersons, keepConfiguration]) {
    try {
      await part();
    } catch (reason) {
      if (!(reason instanceof ApiError) || reason.status === 0 || reason.status === 429) throw reason;
      refused.push(reason);
    }
  }
  if (refused.length) throw refused[0];
  drawCost().catch(fault);
  state.failed = 0;
  state.heardMs = now();
  const off = wrongMs() ? ` · this machine's clock is ${span(Math.abs(wrongMs()) / 1000)} ${wrongMs() > 0 ? "slow" : "fast"}` : "";
  const since = look.overdueSince(state.slow ? 2 * STALE_MS : STALE_MS);
  summary.show(at("summary"), { ...state, overdue: since ? { device: look.seen(state.devices).device, since } : null });
  if (since) linkTold(`no reading since ${moment(since)}${off}`, "warn");
  else linkTold(`${state.slow ? "up to date, some seconds late" : "up to date"}${off}`, "good");
}

/** Say what went wrong; what is drawn stays, with the time of which it is. It is tried again, less and less often. */
function fault(reason) {
  dueNow();
  if (reason instanceof SignInNeeded) {
    showSignIn(reason.message === "nobody is signed in" ? "" : reason.message);
    return;
  }
  state.again = performance.now() + Math.min(MOST_WAIT_MS, 1000 * 2 ** state.failed) * (0.5 + Math.random() / 2);
  state.failed += 1;
  const what = !navigator.onLine ? "this machine is offline" : reason instanceof ApiError ? reason.message : `a fault of this page: ${reason.message}`;
  linkTold(`${what}${state.heardMs ? ` · as of ${moment(state.heardMs)}` : ""}`, "bad");
  look.failed(what);
  if (now() - state.heardMs > STALE_MS) {
    at("summary").hidden = false;
    summary.show(at("summary"), { fault: what, heardMs: state.heardMs });
  }
  if (!(reason instanceof ApiError)) console.error(reason);
}

/** Where everything is, and who comes from the sign-in page. */
async function arrived() {
  const config = await api.configuration();
  try {
    await arrive(config);
  } catch (reason) {
    forget();
    throw new SignInNeeded(reason.message);
  } finally {
    state.config = config;
  }
  due("configuration", SLOW_MS);
}

async function refresh() {
  if (state.busy || document.hidden || performance.now() < state.again) return;
  state.busy = true;
  try {
    if (!state.config) await arrived();
    await turn();
  } catch (reason) {
    fault(reason);
  } finally {
    state.busy = false;
  }
}

function hurry() {
  state.again = 0;
  refresh();
}

function coloured(step) {
  theme.apply(at("theme"), step);
  look.again();  // the charts are drawn in colours of their own
  dueNow("persons");
  hurry();
}

function wire() {
  look.wire();
  document.addEventListener("click", (event) => {
    const led = event.target.closest("[data-go]");
    if (led) go(JSON.parse(led.dataset.go));
  });
  at("theme").addEventListener("click", () => coloured(1));
  at("sign-in-now").addEventListener("click", () => signIn(state.config));
  at("sign-out").addEventListener("click", () => signOut(state.config));
  watch(() => {
    state.changed = true;
    dueNow("measurement");
    hurry();
  });
  addEventListener("online", hurry);
  addEventListener("offline", hurry);
  document.addEventListener("visibilitychange", () => {
    dueNow("live", "configuration");
    hurry();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => coloured(0));
}

theme.apply(at("theme"), 0);
wire();
refresh();
setInterval(refresh, EVERY_MS);
