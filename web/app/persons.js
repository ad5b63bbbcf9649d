// Persons per camera: the newest count, and the mean over the chosen time. From roll-ups and GET /data.
import { Chart } from "./chart.js";
import { count, element, fill, moment } from "./words.js";

const charts = new Map();

function parts(target, camera) {
  const key = `${camera.site}#${camera.device}`;
  if (!charts.has(key)) {
    const told = element("p", {}), box = element("div", { class: "chart small" });
    target.append(element("h3", {}, camera.device), told, box);
    charts.set(key, { told, chart: new Chart(box, { height: 120, label: `Persons at ${camera.device}`, fromZero: true, legend: false }) });
  }
  return charts.get(key);
}

/** Draw every camera's. series: {camera, times, means, newest}; from, to in ms. */
export function show(target, series, from, to) {
  if (!series.length) {
    charts.clear();
    fill(target, element("p", { class: "quiet" }, "No camera has sent anything yet: make camera SOURCE=0."));
    return;
  }
  if (!charts.size) target.replaceChildren();
  for (const { camera, times, means, newest } of series) {
    const { told, chart } = parts(target, camera);
    told.textContent = newest ? `${count(newest.persons_detected)} now (${moment(Date.parse(newest.timestamp) || newest.timestamp * 1000)})` : "nothing in this time";
    chart.draw({ times, from, to, lines: [{ label: "persons, mean", role: "bar", values: means }],
                 words: `Persons at ${camera.device}: ${told.textContent}` });
  }
}
