// The HTTP API: one function a question; every answer is JSON, every refusal an error with what to do.
import { learn } from "./clock.js";
import { ApiError, SignInNeeded, answered } from "./faults.js";
import { forget, renewed, token } from "./login.js";

const WAIT_MS = 15_000;
let config = null;

/** Where API and sign-in page are: config.json beside this page. Its answer tells the time, too. */
export async function configuration() {
  const answer = await answered("this page's server", "config.json", { cache: "no-store" }, WAIT_MS);
  if (!answer.ok) throw new ApiError(answer.status, `config.json: ${answer.status}; deploy the page anew (make web)`);
  learn(answer.headers);
  config = await answer.json();
  return config;
}

async function ask(path, query = {}, options = {}) {
  const given = Object.entries(query).filter(([, text]) => text !== undefined && text !== null);
  const address = `${config.api}${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
  let answer = await asked(address, options, await token(config));
  // It may have ended before its time, or this machine's clock was put back: a new one shows which.
  if (answer.status === 401) answer = await asked(address, options, await renewed(config), "the session has ended");
  if (answer.status === 401) {
    forget();
    throw new SignInNeeded("the session has ended");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, told.detail ?? told.message ?? `the API answered ${answer.status}`);
  return told;
}

function asked(address, options, access, otherwise = "nobody is signed in") {
  if (!access) throw new SignInNeeded(otherwise);
  const headers = { Authorization: `Bearer ${access}`, ...options.headers };
  return answered("the API", address, { ...options, headers }, WAIT_MS);
}

const seconds = (ms) => (ms / 1000).toFixed(3);
const of = (site, device) => `/sites/${encodeURIComponent(site)}/devices/${encodeURIComponent(device)}`;

/** All pages of a list, up to `most` elements. */
async function pages(path, query, key, most) {
  const found = [];
  let cursor;
  do {
    const answer = await ask(path, { ...query, limit: Math.min(1000, most - found.length), cursor });
    found.push(...answer[key]);
    cursor = answer.next;
  } while (cursor && found.length < most);
  return found;
}

export const sites = () => pages("/status", {}, "sites", 5000);
export const devices = async () => (await ask("/devices")).devices;
export const incidents = async () => (await ask("/incidents", { limit: 50 })).incidents;
export const events = (limit) => ask("/data", { limit });

/** {readings, next}: a page of a device's readings, newest first; what it costs does not depend on how many there are. */
export const newest = (site, device, limit, cursor) => ask(`${of(site, device)}/readings`, { limit, cursor });

/** Roll-ups of a time (ms), oldest first, in the resolution that fits it. */
export function rollups(site, device, from, to, resolution = "auto") {
  return pages(`${of(site, device)}/rollups`, { from: seconds(from), to: seconds(to), resolution }, "rollups", 5000);
}

/** Ask a site's bridge to send at once for a while: somebody looks. */
export const live = (site) => ask(`/sites/${encodeURIComponent(site)}/live`, {}, { method: "POST" });
