// Which images are listed, and in which order. Pure functions of the table, the Dice and the state.

// Dice of an image by a source: of one class, or the mean over those that are known; null where none is.
export function valueOf(dice, source, number, label) {
  const row = dice[source]?.[number];
  if (!row) return null;
  if (label !== "") return row[label] ?? null;
  const known = row.filter(value => value !== null);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

// How far apart the sources are about an image.
function spread(dice, number, label) {
  const values = dice.map((_, source) => valueOf(dice, source, number, label)).filter(value => value !== null);
  return values.length > 1 ? Math.max(...values) - Math.min(...values) : null;
}

function fits(image, value, state) {
  const low = state.low === "" ? -Infinity : Number(state.low), high = state.high === "" ? Infinity : Number(state.high);
  const ranged = state.low !== "" || state.high !== "";
  return (!state.split || image.split === state.split) && (!state.fold || String(image.fold) === state.fold)
    && (!state.stratum || image.stratum === state.stratum) && (!state.patient || image.patient === state.patient)
    && (!state.search || image.name.toLowerCase().includes(state.search.toLowerCase()))
    && (!ranged || (value !== null && value >= low && value <= high));
}

const last = (a, b, compare) => a === null || b === null ? (a === null) - (b === null) : compare(a, b);
const ORDERS = {
  worst: (a, b) => last(a.value, b.value, (x, y) => x - y),
  best: (a, b) => last(a.value, b.value, (x, y) => y - x),
  apart: (a, b) => last(a.spread, b.spread, (x, y) => y - x),
  patient: (a, b) => a.image.patient.localeCompare(b.image.patient, undefined, {numeric: true}),
};

// Rows {number, image, value, spread} as the state asks for them; "worst N" without an order is worst first.
export function select(images, dice, state) {
  const rows = images.map((image, number) => ({
    number, image, value: valueOf(dice, Number(state.source), number, state.class), spread: spread(dice, number, state.class),
  })).filter(row => fits(row.image, row.value, state));
  const order = state.sort || (state.top ? "worst" : "");
  if (order in ORDERS) rows.sort(ORDERS[order]);
  if (!state.top) return rows;
  const known = order === "worst" || order === "best" ? rows.filter(row => row.value !== null) : rows;
  return known.slice(0, Number(state.top));
}
