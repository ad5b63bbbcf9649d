// The newest readings of one device: kept here, topped up by what is new. So a turn asks for little, however much there is.
import * as api from "./api.js";

const MOST = 20_000, AFRESH_MS = 30_000;  // what an outage held back comes in between what is here already
let held = { key: "", from: Infinity, rows: [] };
let afresh = { due: Infinity, busy: false, fault: null };

/** Readings received since `from` (ms), and some before, oldest first. */
export async function newer(site, device, from) {
  const key = JSON.stringify([site, device]);
  if (key !== held.key || from < held.from) {
    const rows = await read(site, device, from, 0);
    held = { key, from, rows };
    afresh = { due: performance.now() + AFRESH_MS, busy: false, fault: null };
  } else {
    if (afresh.fault) throw taken();
    if (afresh.due < performance.now() && !afresh.busy) readAfresh(site, device, from, key);
    const fresh = await read(site, device, from, last(held.rows));
    if (key === held.key) {
      const rows = [...held.rows, ...fresh.filter((one) => one.number > last(held.rows))].filter((one) => one.received >= from);
      held = { key, from, rows };
    }
  }
  return held.rows.toSorted((one, other) => one.at - other.at);
}

const last = (rows) => rows.at(-1)?.number ?? 0;

/** Readings after the receive number `known`, received since `from`, in the order of their receipt. */
async function read(site, device, from, known) {
  const found = [];
  for (let cursor, limit = known ? 100 : 1000; ; limit = 1000) {
    const page = await api.newest(site, device, limit, cursor);
    const met = page.readings.findIndex((one) => one.number <= known || one.received < from);
    found.push(...(met < 0 ? page.readings : page.readings.slice(0, met)));
    cursor = page.next;
    if (met >= 0 || !cursor || found.length >= MOST) return found.reverse();
  }
}

/** All of it again, beside the turns: it is several pages, and the newest reading must not wait for them. */
async function readAfresh(site, device, from, key) {
  const mine = afresh;
  mine.busy = true;
  try {
    const rows = await read(site, device, from, 0);
    if (key === held.key && mine === afresh) held.rows = [...rows, ...held.rows.filter((one) => one.number > last(rows))];
  } catch (reason) {
    mine.fault = reason;  // said at the next turn
  } finally {
    mine.busy = false;
    mine.due = performance.now() + AFRESH_MS;
  }
}

/** What went wrong beside the turns; it is said once. */
function taken() {
  const reason = afresh.fault;
  afresh.fault = null;
  return reason;
}
