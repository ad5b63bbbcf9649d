// Who is looking: OAuth 2.0 authorization code with PKCE at the user pool's own page; tokens live in this tab only.
import { ApiError, answered } from "./faults.js";

const KEYS = { verifier: "edgecloud.verifier", state: "edgecloud.state", token: "edgecloud.token", back: "edgecloud.back" };
const RENEW_MS = 60_000, WAIT_MS = 15_000;
let held = read(), renewing = null;

function read() {
  try { return JSON.parse(sessionStorage.getItem(KEYS.token) ?? "null"); } catch { return null; }
}

function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return base64url(bytes);
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function keep(answer) {
  held = { access: answer.access_token, refresh: answer.refresh_token ?? held?.refresh,
           until: Date.now() + answer.expires_in * 1000 };
  sessionStorage.setItem(KEYS.token, JSON.stringify(held));
}

async function ask(config, fields) {
  const answer = await answered("the sign-in page", `${config.signIn}/oauth2/token`, {
    method: "POST", headers: { "Content-Type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({ client_id: config.client, ...fields }) }, WAIT_MS);
  if (!answer.ok) throw new ApiError(answer.status, `the sign-in page answered ${answer.status}`);
  keep(await answer.json());
}

/** Leave for the pool's sign-in page; it comes back to this page with a code. */
export async function signIn(config) {
  const verifier = random(), state = random();
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  sessionStorage.setItem(KEYS.verifier, verifier);
  sessionStorage.setItem(KEYS.state, state);
  sessionStorage.setItem(KEYS.back, location.hash);
  location.assign(`${config.signIn}/oauth2/authorize?${new URLSearchParams({
    response_type: "code", client_id: config.client, redirect_uri: `${location.origin}/`, scope: "openid email", state,
    code_challenge: base64url(new Uint8Array(digest)), code_challenge_method: "S256" })}`);
}

/** Take the code that the sign-in page put into the address, if it did. Throws when it is not the answer to us. */
export async function arrive(config) {
  const query = new URLSearchParams(location.search);
  if (!query.has("code") && !query.has("error")) return;
  const back = sessionStorage.getItem(KEYS.back) ?? "", [verifier, state] = [KEYS.verifier, KEYS.state].map((key) => sessionStorage.getItem(key));
  [KEYS.back, KEYS.verifier, KEYS.state].forEach((key) => sessionStorage.removeItem(key));
  history.replaceState(null, "", `/${back}`);
  if (query.has("error")) throw new Error(query.get("error_description") ?? query.get("error"));
  if (!state || query.get("state") !== state) throw new Error("this sign-in was not begun in this tab");
  await ask(config, { grant_type: "authorization_code", code: query.get("code"), redirect_uri: `${location.origin}/`,
                      code_verifier: verifier });
}

/** The access token, renewed when it is about to end; null when nobody is signed in. ApiError: it could not be renewed now. */
export async function token(config) {
  if (held && held.until - RENEW_MS < Date.now()) return renewed(config);
  return held?.access ?? null;
}

/** A new access token; null when the sign-in page gives none any more. ApiError: it gave no answer, what is held stays. */
export async function renewed(config) {
  if (!held?.refresh) {
    forget();
    return null;
  }
  renewing ??= ask(config, { grant_type: "refresh_token", refresh_token: held.refresh }).finally(() => { renewing = null; });
  try {
    await renewing;
  } catch (fault) {
    if (fault.status !== 400 && fault.status !== 401) throw fault;
    forget();
  }
  return held?.access ?? null;
}

/** Nobody is signed in any more. */
export function forget() {
  held = null;
  sessionStorage.removeItem(KEYS.token);
}

/** Leave, at the pool's page too. */
export function signOut(config) {
  forget();
  location.assign(`${config.signIn}/logout?${new URLSearchParams({ client_id: config.client, logout_uri: `${location.origin}/` })}`);
}
