// One field of one device over a time: readings when the time is short, roll-ups when it is long. From the API.
import * as api from "./api.js";
import { newer } from "./recent.js";
import { element, fill, moment, value } from "./words.js";

const RAW_MS = 900_000;  // of the newest 15 minutes every reading is drawn
const STEP_MS = { minute: 60_000, hour: 3_600_000, day: 86_400_000 };

/** When a roll-up begins, ms. */
export const startOf = (row) => Date.parse((row.minute ?? row.hour ?? row.day).replace(/^(\d{4}-\d{2}-\d{2}T\d{2})Z?$/, "$1:00Z"));
const anomalous = (reading) => reading.mark === "anomaly";

/** {times, lines, rows, words, fields, resolution} of what is seen; incidents give the band around anomalies. */
export async function load({ site, device, field }, from, to, band) {
  return from >= Date.now() - RAW_MS ? raw((await newer(site, device, from)).filter((one) => from <= one.at && one.at < to), field, band)
    : rolled(await api.rollups(site, device, from, to), field, band);
}

function raw(found, wanted, band) {
  const fields = [...new Set(found.flatMap((reading) => Object.keys(reading.values)))].sort();
  const field = chosen(fields, wanted), rows = found.filter((reading) => field in reading.values);
  const times = rows.map((reading) => reading.at), values = rows.map((reading) => reading.values[field]);
  const marks = rows.map((reading) => (anomalous(reading) ? reading.values[field] : null));
  const n = marks.filter((mark) => mark !== null).length;
  return { times, fields, field, resolution: "reading", rows: rows.map((reading) => [moment(reading.at), value(reading.values[field]), anomalous(reading) ? "anomaly" : ""]),
           heads: ["Time", field, "Mark"], lines: [{ label: field, role: "line", values }, ...around(times, band), { label: "anomaly", role: "mark", values: marks }],
           words: `${field}: ${rows.length} readings, ${n} anomalies` };
}

function rolled(found, wanted, band) {
  const fields = [...new Set(found.flatMap((row) => Object.keys(row.fields)))].sort();
  const field = chosen(fields, wanted), rows = found.filter((row) => row.fields[field]);
  const resolution = rows.length ? Object.keys(STEP_MS).find((name) => name in rows[0]) : "minute";
  const times = rows.map(startOf), of = (what) => rows.map((row) => row.fields[field][what]);
  const marks = rows.map((row) => (row.fields[field].anomalies ? far(row.fields[field], band) : null));
  const total = (what) => of(what).reduce((a, b) => a + b, 0);
  return { times, fields, field, resolution, heads: ["From", "Mean", "Lowest", "Highest", "Readings", "Anomalies"],
           rows: rows.map((row) => [moment(startOf(row)), ...["mean", "min", "max", "n", "anomalies"].map((what) => value(row.fields[field][what]))]),
           lines: [{ label: `${field}, mean`, role: "line", values: of("mean") }, ...around(times, band), { label: "anomalies, farthest", role: "mark", values: marks }],
           words: `${field} by ${resolution}: ${total("n")} readings, ${total("anomalies")} anomalies` };
}

const chosen = (fields, wanted) => (fields.includes(wanted) ? wanted : fields.includes("sensor2") ? "sensor2" : fields[0] ?? wanted ?? "nothing");

/** Of a roll-up's extremes the one farther from what is normal. */
function far(total, band) {
  const middle = band ? (band[0] + band[1]) / 2 : total.mean;
  return Math.abs(total.max - middle) >= Math.abs(total.min - middle) ? total.max : total.min;
}

const around = (times, band) => (band ? [
  { label: "normal up to", role: "high", values: times.map(() => band[1]) }, { label: "normal from", role: "low", values: times.map(() => band[0]) }] : []);

/** The same as a table, newest first. */
export function table(target, { heads, rows }) {
  const body = rows.slice(-500).reverse().map((row) => element("tr", {}, ...row.map((cell, at) => element("td", { class: at ? "number" : undefined }, cell))));
  fill(target, element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((head, at) => element("th", { scope: "col", class: at ? "number" : undefined }, head)))), element("tbody", {}, ...body)));
}
