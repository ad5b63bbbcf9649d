// One field of one device over a time: readings when the time is short, roll-ups when it is long. From the API.
import * as api from "./api.js";
import { now } from "./clock.js";
import { parted, patience, patienceOfRollups, values as across } from "./gaps.js";
import { newer } from "./recent.js";
import { resolutionOf, startOf } from "./rollups.js";
import { count, element, fill, limit, moment, some, span, value } from "./words.js";

const RAW_MS = 900_000;  // of the newest 15 minutes every reading is drawn
const MOST_ROWS = 500;  // of the table
const anomalous = (reading) => reading.mark === "anomaly";

/** What is seen, as a chart and a table draw it: {times, lines, words, fields, field, n, heads, rows(), measured}; n: points;
 * measured: when, if they are readings. bandOf(field): [low, high, since when] of what is normal, or null. */
export async function load({ site, device, field }, from, to, bandOf) {
  return from >= now() - RAW_MS ? raw((await newer(site, device, from)).filter((one) => from <= one.at && one.at < to), field, bandOf)
    : rolled(await api.rollups(site, device, from, to), field, bandOf);
}

function raw(found, wanted, bandOf) {
  const fields = [...new Set(found.flatMap((reading) => Object.keys(reading.values)))].sort();
  const field = chosen(fields, wanted), band = bandOf(field), readings = found.filter((reading) => field in reading.values);
  const measured = readings.map((reading) => reading.at), { times, at, gaps } = parted(measured, patience(measured));
  const values = across(at, readings.map((reading) => reading.values[field]));
  const marks = across(at, readings.map((reading) => (anomalous(reading) ? reading.values[field] : null)));
  const n = marks.filter((mark) => mark !== null).length;
  const row = (reading) => [moment(reading.at), value(reading.values[field]), anomalous(reading) ? "anomaly" : ""];
  return { times, measured, fields, field, n: readings.length, heads: ["Time", field, "Mark"], rows: () => readings.slice(-MOST_ROWS).map(row),
           lines: [{ label: field, role: "line", values }, ...around(times, band), { label: "anomaly", role: "mark", values: marks }],
           words: told(field, readings.length, n, gaps, band) };
}

function rolled(found, wanted, bandOf) {
  const fields = [...new Set(found.flatMap((row) => Object.keys(row.fields)))].sort();
  const field = chosen(fields, wanted), band = bandOf(field), rollups = found.filter((row) => row.fields[field]);
  const starts = rollups.map(startOf), { times, at, gaps } = parted(starts, patienceOfRollups(starts));
  const of = (what) => rollups.map((row) => row.fields[field][what]);
  const marks = across(at, rollups.map((row) => (row.fields[field].anomalies ? far(row.fields[field], band) : null)));
  const total = (what) => of(what).reduce((a, b) => a + b, 0);
  const row = (one) => [moment(startOf(one)), ...["mean", "min", "max", "n", "anomalies"].map((what) => value(one.fields[field][what]))];
  return { times, fields, field, n: rollups.length, heads: ["From", "Mean", "Lowest", "Highest", "Readings", "Anomalies"],
           rows: () => rollups.slice(-MOST_ROWS).map(row),
           lines: [{ label: `${field}, mean`, role: "line", values: across(at, of("mean")) }, ...around(times, band),
                   { label: "anomalies, farthest", role: "mark", values: marks }],
           words: rollups.length ? told(`${field} by ${resolutionOf(rollups[0])}`, total("n"), total("anomalies"), gaps, band) : "" };
}

function told(what, readings, anomalies, gaps, band) {
  return [`${what}: ${some(readings, "reading")}`, some(anomalies, "anomaly", "anomalies"),
          gaps.length && `${some(gaps.length, "gap")}${gaps.length > 1 ? ", the longest" : ""} of ${span(Math.max(...gaps) / 1000)}`,
          band && `normal ${band[2]}: ${limit(band[0])} to ${limit(band[1])}`].filter(Boolean).join(", ");
}

const chosen = (fields, wanted) => (fields.includes(wanted) ? wanted : fields.includes("sensor2") ? "sensor2" : fields[0] ?? wanted ?? "nothing");

/** Of a roll-up's extremes the one farther from what is normal. */
function far(total, band) {
  const middle = band ? (band[0] + band[1]) / 2 : total.mean;
  return Math.abs(total.max - middle) >= Math.abs(total.min - middle) ? total.max : total.min;
}

const around = (times, band) => (band ? [
  { label: "normal up to", role: "high", values: times.map(() => band[1]) },
  { label: "normal from", role: "low", values: times.map(() => band[0]) }] : []);

/** The same as a table, newest first. */
export function table(target, { heads, rows, n }) {
  const cells = (tag, scope, texts) => texts.map((text, at) => element(tag, { scope, class: at ? "number" : undefined }, text));
  const body = rows().reverse().map((row) => element("tr", {}, ...cells("td", undefined, row)));
  fill(target, element("table", {}, element("thead", {}, element("tr", {}, ...cells("th", "col", heads))), element("tbody", {}, ...body)),
    n > MOST_ROWS ? element("p", { class: "quiet" }, `The newest ${count(MOST_ROWS)} of ${count(n)}.`) : null);
}
