// A roll-up's time: its minute, hour or day as the API writes it.

const STEP_MS = { minute: 60_000, hour: 3_600_000, day: 86_400_000 };

/** "minute", "hour" or "day". */
export const resolutionOf = (row) => Object.keys(STEP_MS).find((name) => name in row);

/** When it begins, ms. */
export const startOf = (row) => Date.parse(row[resolutionOf(row)].replace(/^(\d{4}-\d{2}-\d{2}T\d{2})Z?$/, "$1:00Z"));

/** When it ends, ms. */
export const endOf = (row) => startOf(row) + STEP_MS[resolutionOf(row)];
