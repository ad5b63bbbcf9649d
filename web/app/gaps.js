// Where values stayed away for long: then a line stops, for nobody knows what was between, and the next is overdue.
const READINGS = 5, ROLLUPS = 2, LEAST_MS = 10_000;

/** The usual pause between rising times (ms), their median; undefined of fewer than two. */
function usual(times) {
  const pauses = times.slice(1).map((ms, n) => ms - times[n]).sort((one, other) => one - other);
  return pauses[pauses.length >> 1];
}

/** How long (ms) after a reading of `times` the next may come. A device that sends each minute is not late after ten seconds. */
export const patience = (times, leastMs = LEAST_MS) => leastMs + READINGS * usual(times);

/** The same of roll-ups: without a reading there is none, and of a device that seldom sends not each minute has one. */
export const patienceOfRollups = (times) => ROLLUPS * usual(times);

/** times with a moment put into each pause longer than mostMs, a usual one after the value before it; at: for each of
 * them its place in `times`, -1 in a gap; gaps: their lengths, ms. */
export function parted(times, mostMs) {
  const found = { times: [], at: [], gaps: [] }, step = usual(times);
  times.forEach((ms, n) => {
    if (n && ms - times[n - 1] > mostMs) {
      found.times.push(times[n - 1] + step);
      found.at.push(-1);
      found.gaps.push(ms - times[n - 1]);
    }
    found.times.push(ms);
    found.at.push(n);
  });
  return found;
}

/** The values of a line at `at`: null in a gap. */
export const values = (at, of) => at.map((n) => (n < 0 ? null : of[n]));
