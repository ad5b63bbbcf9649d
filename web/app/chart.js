// Time series drawn by uPlot: the value, its normal band, the anomalies on it; dragging zooms, arrows move, + and - zoom.
import uPlot from "./vendor/uPlot.esm.js";
import { limit, moment, value } from "./words.js";

/** A CSS colour as the canvas needs it: light-dark() resolved for the theme that is on. */
function resolved(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const DAY_S = 86_400;
const MANY_MARKS = 60;  // from so many on they are smaller: else they hide what they are on
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const exactly = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dated = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

/** What stands at the ticks of the time axis: no more than tells them apart. */
const ticked = (_, ticks, __, ___, stepS) => ticks.map((s) => {
  const at = new Date(s * 1000);
  const midnight = at.getHours() + at.getMinutes() + at.getSeconds() === 0;
  return (stepS >= DAY_S || midnight ? dated : stepS < 60 ? exactly : clock).format(at);
});

/** Where no cursor is, the legend has the newest values. */
function newestTold(plot) {
  const last = plot.data[0].length - 1;
  if (plot.cursor.left < 0) plot.setLegend({ idx: last < 0 ? null : last }, false);
}

/** The points of a line that has no neighbour to be drawn to. */
const alone = (plot, line) => plot.data[line].flatMap((y, n, all) =>
  (y !== null && (all[n - 1] ?? all[n + 1] ?? null) === null ? [n] : []));

/** A chart in `target`. height: CSS px; fromZero: the axis begins there; zoom(fromMs, toMs) is called when a person
 * chooses a time; null: not offered. */
export class Chart {
  constructor(target, { height, zoom = null, label = "", fromZero = false, legend = true }) {
    Object.assign(this, { target, height, zoom, label, fromZero, legend, plot: null, shape: "", shown: null });
    target.setAttribute("role", "img");
    new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height })).observe(target);
    if (zoom) {
      target.tabIndex = 0;
      target.addEventListener("keydown", (event) => this.pressed(event));
    }
  }

  width() { return Math.max(200, this.target.clientWidth); }

  /** lines: [{label, values, role: line|low|high|mark|bar}] on times (ms); from, to: what the axis shows. */
  draw({ times, lines, from, to, words }) {
    this.shown = [from, to];
    const many = lines.some((line) => line.role === "mark" && line.values.filter((mark) => mark !== null).length > MANY_MARKS);
    const shape = JSON.stringify([lines.map((line) => [line.label, line.role]), document.documentElement.dataset.theme,
                                  matchMedia("(prefers-color-scheme: dark)").matches, many]);
    const data = [times.map((ms) => ms / 1000), ...lines.map((line) => line.values)];
    if (shape !== this.shape || !this.plot) {
      this.plot?.destroy();
      this.shape = shape;
      this.plot = new uPlot(this.options(lines, many ? 4 : 7), data, this.target);
    } else {
      this.plot.setData(data, false);
    }
    this.plot.batch(() => {
      this.plot.setScale("x", { min: from / 1000, max: to / 1000 });
    });
    newestTold(this.plot);
    const spoken = `${words ?? this.label}${this.zoom ? "; arrow keys move in time, plus and minus zoom" : ""}`;
    if (this.target.getAttribute("aria-label") !== spoken) this.target.setAttribute("aria-label", spoken);
  }

  options(lines, markPx) {
    const [ink, quiet, line, strong, bad, band] = ["--ink", "--quiet", "--line", "--strong", "--bad", "--band"].map(resolved);
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui" };
    const looks = {
      line: { stroke: strong, width: 1.5, points: { show: false, filter: alone, size: 3, stroke: strong, fill: strong } },
      low: { stroke: band, width: 1, points: { show: false } }, high: { stroke: band, width: 1, points: { show: false } },
      mark: { stroke: bad, width: 0, paths: () => null, points: { show: true, size: markPx, stroke: bad, fill: bad } },
      bar: { stroke: strong, fill: band, width: 1, paths: uPlot.paths.stepped({ align: 1, alignGaps: 1 }), points: { show: false } },
    };
    const at = (role) => lines.findIndex((one) => one.role === role) + 1;
    return {
      width: this.width(), height: this.height, padding: [8, 32, 0, 0],
      scales: { x: { time: true }, y: this.fromZero ? { range: (_, low, high) => [0, Math.max(1, 1.1 * high)] } : {} },
      cursor: { drag: { x: Boolean(this.zoom), y: false, setScale: false }, points: { stroke: ink } },
      legend: { show: this.legend },
      axes: [{ ...axis, values: ticked, space: 80 }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => value(tick)) }],
      bands: at("high") && at("low") ? [{ series: [at("high"), at("low")], fill: band }] : [],
      series: [{ value: (_, s) => (s === null || s === undefined ? "–" : moment(s * 1000)) },
               ...lines.map((one) => ({ label: one.label, spanGaps: one.role === "low" || one.role === "high",
                                        value: (_, x) => (one.role === "line" || one.role === "mark" ? value(x) : limit(x)), ...looks[one.role] }))],
      hooks: { setCursor: [newestTold], setSelect: [(plot) => {
        if (!this.zoom || plot.select.width < 8) return;
        const [from, to] = [plot.select.left, plot.select.left + plot.select.width].map((px) => plot.posToVal(px, "x") * 1000);
        plot.setSelect({ width: 0, height: 0 }, false);
        this.zoom(Math.round(from), Math.round(to));
      }] },
    };
  }

  pressed(event) {
    const [from, to] = this.shown ?? [];
    const step = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key], factor = { "+": 0.5, "=": 0.5, "-": 2 }[event.key];
    if (from === undefined || (step === undefined && factor === undefined) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const length = to - from, middle = (from + to) / 2;
    if (step !== undefined) this.zoom(Math.round(from + step * length), Math.round(to + step * length));
    else this.zoom(Math.round(middle - (factor * length) / 2), Math.round(middle + (factor * length) / 2));
  }
}
