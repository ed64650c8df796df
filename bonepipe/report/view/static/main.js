// Everything put together.
import * as api from "./api.js";
import {state, set, watch, tellAll} from "./state.js";
import {Classes} from "./classes.js";
import {List} from "./list.js";
import {Review} from "./review.js";
import {Stage} from "./stage.js";
import {element} from "./panel.js";
import {help, listen} from "./keys.js";

const by = id => document.getElementById(id);
const narrow = matchMedia("(max-width: 820px)");
const MODES = ["outline", "fill", "difference", "none"];
const alert_ = by("alert");

const tell = {
  error(error) { alert_.textContent = error.message; alert_.hidden = false; clearTimeout(tell.timer); tell.timer = setTimeout(() => { alert_.hidden = true; }, 9000); },
  place(text) { by("place").textContent = text; },
  scale(scale) { by("scale").textContent = `${Math.round(scale * 100)}%`; },
  label() {}, shown() {}, redraw() {},
};

// What is known of the dataset, and which of it the state names.
async function open() {
  const table = {...await api.index(), dice: [], done: false, ready: false};
  const all = ["truth", ...table.sources.map((_, place) => String(place))];
  return Object.assign(table, {
    all,
    nameOf: source => source === "truth" ? "Annotation" : table.sources[source],
    number: () => numbers.get(state.image),
    doubted: () => null,
    panels() {
      const wanted = state.panels.split(",").filter(source => all.includes(source));
      return wanted.length ? wanted : narrow.matches ? [all[1] ?? all[0]] : all.slice(0, 3);
    },
  }, {dice: table.sources.map(() => [])});
}

const table = await open().catch(error => { tell.error(error); throw error; });
const numbers = new Map(table.images.map((image, number) => [image.name, number]));
by("title").textContent = table.title;
document.title = `${table.title} · bonepipe view`;

const stage = new Stage(by("stage"), table, tell);
const classes = new Classes(table, stage);
const list = new List(table);
const review = new Review(table, classes, tell);
table.doubted = () => review.doubted();

tell.label = (label, source) => {
  const name = table.classes[label]?.name;
  if (!name) { by("readout").textContent = ""; return; }
  const place = ["truth", ...table.panels().filter(other => other !== "truth")].indexOf(source);
  const value = classes.masks?.[place]?.classes[label]?.dice;
  by("readout").textContent = value === undefined || value === null ? name : `${name}: Dice ${value.toFixed(4)}`;
};
tell.redraw = () => stage.panels.forEach(panel => panel.draw());
tell.shown = async number => {
  await classes.update();
  if (table.number() !== number) return;
  review.shown();
  drawScores();
  const next = list.rows[list.place() + 1];
  setTimeout(() => { list.ready(); if (next && table.number() === number) ahead(next.number); }, 300);
};

// The next image is fetched while this one is looked at.
function ahead(number) {
  new Image().src = api.picture(number, stage.sizeFor(Math.min(stage.box().width, stage.box().height) * devicePixelRatio));
  for (const panel of stage.panels) api.masks(number, panel.source).catch(() => {});
}

function drawScores() {
  for (const panel of stage.panels) {
    const row = table.dice[panel.source]?.[table.number()], known = row?.filter(value => value !== null) ?? [];
    panel.score.textContent = known.length ? `Dice ${(known.reduce((a, b) => a + b, 0) / known.length).toFixed(3)}` : "";
  }
}

function togglePanel(source) {
  const now = table.panels();
  if (narrow.matches) { set({panels: source}); return; }
  const next = table.all.filter(other => other === source ? !now.includes(source) : now.includes(other));
  if (next.length) set({panels: next.join(",")});
}

by("panels").replaceChildren(...table.all.map(source => {
  const button = element("button", {type: "button", textContent: table.nameOf(source), onclick: () => togglePanel(source)});
  button.dataset.panel = source;
  return button;
}));

const press = (button, pressed) => button.setAttribute("aria-pressed", pressed);
watch(["panels", "mode", "truth", "invert", "level", "window"], () => {
  const shown = table.panels();
  for (const button of by("panels").children) press(button, shown.includes(button.dataset.panel));
  for (const button of by("modes").children) press(button, button.dataset.mode === state.mode);
  press(by("truth"), Boolean(state.truth));
  press(by("invert"), Boolean(state.invert));
  for (const slider of document.querySelectorAll("#brightness input")) slider.value = state[slider.name];
  document.body.dataset.mode = state.mode;
  drawScores();
});
watch(["image", "candidate"], () => document.body.classList.remove("show-images"));
narrow.addEventListener("change", () => { if (!state.panels) tellAll(); });

const zooms = {in: () => stage.step(1), out: () => stage.step(-1), fit: () => set({z: "", x: "", y: ""}), native: () => stage.native()};
const nextMode = () => set({mode: MODES[(MODES.indexOf(state.mode) + 1) % MODES.length]});
const resetWindow = () => set({level: 128, window: 256, invert: ""});
const toggle = key => set({[key]: state[key] ? "" : "1"});
const clickOn = (selector, act) => document.querySelectorAll(selector).forEach(button => button.addEventListener("click", () => act(button)));
clickOn("[data-mode]", button => set({mode: button.dataset.mode}));
clickOn("[data-zoom]", button => zooms[button.dataset.zoom]());
clickOn("[data-tab]", button => set({tab: button.dataset.tab}));
clickOn("[data-drawer]", button => document.body.classList.toggle(`show-${button.dataset.drawer}`));
clickOn("#stage", () => document.body.classList.remove("show-images", "show-classes"));
clickOn("#truth", () => toggle("truth"));
clickOn("#invert", () => toggle("invert"));
clickOn("#reset", resetWindow);
clickOn("#help-button", help);
by("brightness").addEventListener("input", event => set({[event.target.name]: event.target.value}));

// A click leaves the keys to the page: Space would press the button again.
addEventListener("click", event => { if (event.detail) event.target.closest?.("button")?.blur(); });
let peeked = "";
addEventListener("keyup", event => { if (event.key === " " && peeked) { set({mode: peeked}); peeked = ""; } });
const PANS = {"Shift+ArrowLeft": [80, 0], "Shift+ArrowRight": [-80, 0], "Shift+ArrowUp": [0, 80], "Shift+ArrowDown": [0, -80]};
const step = by_ => state.tab === "review" ? review.step(by_) : list.step(by_);
listen([
  [["ArrowRight", "j"], "next image or candidate", () => step(1)],
  [["ArrowLeft", "k"], "the one before", () => step(-1)],
  [["w"], "the worst image of the class", () => { set({sort: "worst", tab: "images"}); list.go(0); }],
  [["+", "="], "larger (wheel, two fingers)", zooms.in], [["-"], "smaller", zooms.out],
  [["0"], "the whole image", zooms.fit], [["1"], "native pixels (double-click)", zooms.native],
  [Object.keys(PANS), "pan (drag)", event => stage.pan(...PANS[`Shift+${event.key}`])],
  [["o"], "outlines, filled masks, difference, nothing", nextMode],
  [["d"], "difference from the annotation, and back", () => set({mode: state.mode === "difference" ? "outline" : "difference"})],
  [[" "], "the image alone, while held", () => { if (!peeked && state.mode !== "none") { peeked = state.mode; set({mode: "none"}); } }],
  [["t"], "the annotation as a dashed line over predictions", () => toggle("truth")],
  [["h"], "hide or show all classes", () => classes.all(Boolean(state.hide))],
  [["[", "]"], "darker, brighter (drag with the right button)", event => stage.shade(event.key === "[" ? 8 : -8, 0)],
  [["{", "}"], "less, more contrast", event => stage.shade(0, event.key === "{" ? 16 : -16)],
  [["i"], "exchange dark and bright", () => toggle("invert")], [["r"], "brightness as in the file", resetWindow],
  [["l"], "label errors, and back to all images", () => set({tab: state.tab === "review" ? "images" : "review"})],
  [["a"], "accept the candidate as suggested", () => review.decide(review.usual())],
  [["x"], "reject it", () => review.decide("keep")], [["u"], "undo the decision", () => review.decide("open")],
  [["/"], "search a file name", () => { set({tab: "images"}); by("filters").search.focus(); }],
  [["?"], "this sheet", help],
]);

async function readDice() {
  Object.assign(table, await api.dice());
  list.update({jumps: false});
  drawScores();
  if (!table.done) setTimeout(readDice, 1500);
}

await Promise.all([readDice(), review.load()]).catch(tell.error);
if (!numbers.has(state.image)) state.image = "";
tellAll();
if (!state.image) list.first();
