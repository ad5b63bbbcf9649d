// The newest readings of one device: kept here, topped up by what is new. So a turn asks for little, however much there is.
import * as api from "./api.js";

const MOST = 20_000, AFRESH_MS = 30_000;  // what an outage held back comes in between what is here already
let held = { key: "", from: Infinity, read: 0, rows: [] };

/** Readings received since `from` (ms), and some before, oldest first. */
export async function newer(site, device, from) {
  const key = JSON.stringify([site, device]);
  const anew = key !== held.key || from < held.from || Date.now() - held.read > AFRESH_MS;
  const known = anew ? 0 : held.rows.at(-1)?.number ?? 0;
  const fresh = [];
  for (let cursor, limit = known ? 100 : 1000; ; limit = 1000) {
    const page = await api.newest(site, device, limit, cursor);
    const met = page.readings.findIndex((one) => one.number <= known || one.received < from);
    fresh.push(...(met < 0 ? page.readings : page.readings.slice(0, met)));
    cursor = page.next;
    if (met >= 0 || !cursor || fresh.length >= MOST) break;
  }
  const rows = [...(anew ? [] : held.rows.filter((one) => one.received >= from)), ...fresh.reverse()];
  held = { key, from: anew ? from : held.from, read: anew ? Date.now() : held.read, rows };
  return rows.toSorted((one, other) => one.at - other.at);
}
