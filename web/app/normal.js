// What is normal of a measurement: as its bridge tells it now (GET /status), else as it was at the newest anomaly (GET /incidents).
import { isSilent } from "./sites.js";

/** bandOf(field) of a device: [low, high, when that was so]; null: nobody says, and nothing is drawn. */
export const bands = ({ site, device }, sites, incidents) => (field) => {
  const from = sites.find((one) => one.site === site);
  const told = from?.devices?.find((one) => one.device === device)?.normal?.[field];
  if (told) return [...told, isSilent(from) ? "when last heard" : "now"];
  const found = incidents.find((one) => one.site === site && one.device === device && one.field === field && typeof one.low === "number");
  return found ? [found.low, found.high, "at the newest anomaly"] : null;
};
