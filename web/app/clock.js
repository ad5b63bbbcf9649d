// What time it is, also where this machine's clock is wrong: from the answers of the server that the page itself is from.

const TRUSTED_MS = 30_000;  // a Date is in whole seconds and was some time on its way: below this the clock is right
let offMs = 0;

/** Learn from an answer's headers. Age: for how long a cache has had it, s. */
export function learn(headers) {
  const toldMs = Date.parse(headers.get("date") ?? "") + 1000 * Number(headers.get("age") ?? 0);
  const found = toldMs - Date.now();
  if (!Number.isNaN(found)) offMs = Math.abs(found) > TRUSTED_MS ? found : 0;
}

/** Now, ms since 1970. */
export const now = () => Date.now() + offMs;

/** By how much this machine's clock is behind (ahead: below 0), ms; 0: it is right. */
export const wrongMs = () => offMs;
