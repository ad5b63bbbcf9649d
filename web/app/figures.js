// Carbon now and cost this month: from the sites' status and the prices that config.json was deployed with.
import { count, element, figures, fill, limit, value } from "./words.js";

/** Intensity, state and estimate of each site that tells them. */
export function carbon(target, sites) {
  const told = sites.filter((site) => site.carbon);
  if (!told.length) {
    fill(target, element("p", { class: "quiet" }, "No bridge tells a carbon intensity."));
    return;
  }
  fill(target, ...told.flatMap(({ site, carbon: now }) => [element("h3", {}, site), figures([
    ["Intensity", `${value(now.intensity_g_per_kwh)} gCO₂/kWh`], ["State", now.state], ["Source", now.source ?? "–"],
    ["Today, estimated", now.estimated_g === undefined ? "–" : `${limit(now.estimated_g)} gCO₂`],
    ["Between", now.estimated_low_g === undefined ? "–" : `${limit(now.estimated_low_g)}–${limit(now.estimated_high_g)} g`],
    ["Electricity", now.estimated_wh === undefined ? "–" : `${limit(now.estimated_wh)} Wh`]], "wide"),
    element("p", { class: "quiet" }, slowed(now))]));
}

/** What is put off for the sake of the intensity; alerts never are. */
function slowed({ terms, measured }) {
  const put = [terms?.batch > 1 && `batches ${value(terms.batch)} times as long`, terms?.backfill < 1 && "backfill slower",
               terms?.frames < 1 && "fewer camera frames", terms?.postpone && "heavy work later"].filter(Boolean);
  const assumed = measured === false ? " The intensity is assumed, not measured." : "";
  return `${put.length ? `Put off: ${put.join(", ")}.` : "Nothing is put off."} Alerts never wait.${assumed}`;
}

/** What the readings received this month cost, estimated; null readings: they are not known, `why` says so. */
export function cost(target, config, readings, why = "") {
  const prices = config.cost;
  if (readings === null) {
    fill(target, element("p", { class: "quiet" }, `${why}; AWS Budgets and the bill tell what was paid.`));
    return;
  }
  const variable = (readings / 1e6) * prices.usd_per_million_readings;
  fill(target, figures([["Readings", count(readings)], ["For them", variable > 0 && variable < 0.01 ? "under $0.01" : `$${variable.toFixed(2)}`],
    ["Fixed, a month", `$${prices.fixed_usd_per_month.toFixed(2)}`]]),
    element("p", { class: "quiet" }, `An estimate at the list prices of ${prices.prices_of}; AWS's bill is what counts.`));
}
