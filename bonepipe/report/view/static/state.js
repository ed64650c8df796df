// What is shown lives in the address: a view can be bookmarked, sent and stepped back to.
export const DEFAULTS = {
  image: "", panels: "", mode: "outline", truth: "1", hide: "", class: "", source: "0", sort: "", top: "",
  low: "", high: "", split: "", fold: "", stratum: "", patient: "", search: "",
  z: "", x: "", y: "", level: "128", window: "256", invert: "", tab: "images", candidate: "",
};
const listeners = [];
let timer = 0;

function read() {
  const given = new URLSearchParams(location.search), values = {};
  for (const key of Object.keys(DEFAULTS)) values[key] = given.get(key) ?? DEFAULTS[key];
  return values;
}

export const state = read();

// Call back when one of these keys changes; all are told once at the start, in the order of their calls.
export function watch(keys, tell) { listeners.push([new Set(keys), tell]); }

export function tellAll() { for (const [, tell] of listeners) tell(); }

function tell(changed) {
  for (const [keys, listener] of listeners) if (changed.some(key => keys.has(key))) listener();
}

// Change some keys. Another image is a step that the browser's back button takes back.
export function set(changes) {
  const changed = Object.keys(changes).filter(key => String(changes[key]) !== state[key]);
  if (!changed.length) return;
  if (changed.includes("image")) { write(); history.pushState(null, "", location.href); }
  for (const key of changed) state[key] = String(changes[key]);
  clearTimeout(timer);
  if (changed.includes("image")) write();
  else timer = setTimeout(write, 200);  // browsers refuse a hundred changes a second
  tell(changed);
}

function write() {
  clearTimeout(timer);
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) if (value !== DEFAULTS[key]) given.set(key, value);
  history.replaceState(null, "", `${location.pathname}${given.size ? `?${given}` : ""}`);
}

addEventListener("popstate", () => {
  clearTimeout(timer);
  const now = read(), changed = Object.keys(now).filter(key => now[key] !== state[key]);
  Object.assign(state, now);
  tell(changed);
});

export const numbers = key => new Set(state[key].split(",").filter(Boolean).map(Number));
