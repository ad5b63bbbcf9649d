// Persons per camera: the newest count, and the mean over the chosen time. From roll-ups and GET /data.
import * as api from "./api.js";
import { Chart } from "./chart.js";
import { parted, patienceOfRollups, values } from "./gaps.js";
import { endOf, startOf } from "./rollups.js";
import { element, fill, moment, some } from "./words.js";

const MOST = 12;  // cameras: each is a question every ten seconds
const charts = new Map();

/** {camera, newest, times, means} of each camera, the first dozen. */
export async function load(cameras, from, to) {
  const newest = cameras.length ? await api.events(200) : [];
  return Promise.all(cameras.slice(0, MOST).map(async (camera) => {
    const rows = (await api.rollups(camera.site, camera.device, from, to)).filter((row) => row.fields.persons_detected);
    return { camera, newest: newest.find((one) => one.device_id === camera.device), times: rows.map(startOf),
             ends: rows.length ? Math.min(to, endOf(rows.at(-1))) : to, means: rows.map((row) => row.fields.persons_detected.mean) };
  }));
}

function parts(target, camera) {
  const key = `${camera.site}#${camera.device}`;
  if (!charts.has(key)) {
    const told = element("p", {}), box = element("div", { class: "chart small" });
    target.append(element("h3", {}, camera.device), told, box);
    charts.set(key, { told, chart: new Chart(box, { height: 120, label: `Persons at ${camera.device}`, fromZero: true, legend: false }) });
  }
  return charts.get(key);
}

/** Draw every camera's; left: how many cameras are not among them; from, to in ms. */
export function show(target, series, left, from, to) {
  if (!series.length) {
    charts.clear();
    fill(target, element("p", { class: "quiet" }, "No camera has sent anything yet: make camera SOURCE=0."));
    return;
  }
  if (!charts.size) target.replaceChildren();
  for (const { camera, newest, times, ends, means } of series) {
    const { told, chart } = parts(target, camera);
    const at = newest && moment(Date.parse(newest.timestamp) || newest.timestamp * 1000);
    const text = newest ? `${some(newest.persons_detected, "person")} at ${at}` : "nothing lately";
    if (told.textContent !== text) told.textContent = text;
    // The last mean holds until its minute, hour or day is over.
    const drawn = parted(times, patienceOfRollups(times)), held = values(drawn.at, means);
    if (times.length) { drawn.times.push(ends); held.push(means.at(-1)); }
    chart.draw({ times: drawn.times, from, to, lines: [{ label: "persons, mean", role: "bar", values: held }],
                 words: `Persons at ${camera.device}: ${text}` });
  }
  const more = left > 0 ? `and ${some(left, "camera")} more` : "";
  let last = target.querySelector("p.more");
  if (more && !last) target.append(last = element("p", { class: "more quiet" }));
  if (last) { last.textContent = more; target.append(last); }
}
