// How many readings were received this month: added up from roll-ups, slowly, so that the API stays free for what is looked at.
import * as api from "./api.js";
import { now } from "./clock.js";

export const MOST_DEVICES = 200;
const PAUSE_MS = 250;  // between two questions: a fifth of what the API takes a second

/** Their number; null: too many devices to ask for, or nobody looks any more. Coarser roll-ups are some minutes late,
 * so days are asked for until today, hours until now, and this hour's minutes. */
export async function readingsThisMonth(measuring) {
  if (measuring.length > MOST_DEVICES) return null;
  const at = new Date(now()), [year, month, day, hour] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate(), at.getUTCHours()];
  const [first, today, thisHour] = [Date.UTC(year, month, 1), Date.UTC(year, month, day), Date.UTC(year, month, day, hour)];
  const parts = [["day", first, today], ["hour", today, thisHour], ["minute", thisHour, at.getTime()]].filter(([, from, to]) => from < to);
  let sum = 0;
  for (const one of measuring) {
    for (const [resolution, from, to] of parts) {
      if (document.hidden) return null;
      const rows = await api.rollups(one.site, one.device, from, to, resolution);
      sum += rows.reduce((n, row) => n + Math.max(0, ...Object.values(row.fields).map((total) => total.n)), 0);
      await new Promise((done) => { setTimeout(done, PAUSE_MS); });
    }
  }
  return sum;
}
