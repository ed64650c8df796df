// The list of images: filters above, and of the rows only those on the screen.
import * as api from "./api.js";
import {state, set, watch} from "./state.js";
import {select} from "./filter.js";
import {element} from "./panel.js";

const ROW = 60;  // pixels, as in the style sheet
const FILTERS = ["top", "class", "source", "sort", "low", "high", "split", "fold", "stratum", "patient", "search"];
const form = document.getElementById("filters"), list = document.getElementById("list"), rowsBox = document.getElementById("rows");

const options = (select, entries) => select.replaceChildren(...entries.map(([value, text]) => element("option", {value, textContent: text})));

export class List {
  constructor(table) {
    Object.assign(this, {table, rows: []});
    this.fill();
    form.addEventListener("input", event => set({[event.target.name]: event.target.value.trim()}));
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("reset", event => { event.preventDefault(); set(Object.fromEntries(FILTERS.map(key => [key, key === "source" ? "0" : ""]))); });
    list.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(list);
    watch(FILTERS, () => this.update());
    watch(["image"], () => { this.draw(); this.reveal(); });
  }

  // What can be chosen; what there is one of only is not asked for.
  fill() {
    const {images, classes, sources} = this.table;
    const distinct = key => [...new Set(images.map(image => image[key]).filter(value => value !== undefined))]
      .sort((a, b) => String(a).localeCompare(String(b), undefined, {numeric: true}));
    options(form.class, [["", "all classes"], ...classes.map(({name}, label) => [String(label), name])]);
    options(form.source, sources.map((name, place) => [String(place), name]));
    form.source.disabled = sources.length < 2;
    for (const [key, all, word] of [["split", "all parts", ""], ["fold", "all folds", "fold "], ["stratum", "all strata", ""]]) {
      const values = distinct(key);
      options(form[key], [["", all], ...values.map(value => [String(value), word + value])]);
      form[key].hidden = values.length < 2;
    }
    document.getElementById("patients").replaceChildren(...distinct("patient").map(value => element("option", {value})));
  }

  // `jumps`: to the first image where the one that is shown is not among them.
  update({jumps = true} = {}) {
    for (const key of FILTERS) if (form[key].value !== state[key] && document.activeElement !== form[key]) form[key].value = state[key];
    this.rows = select(this.table.images, this.table.dice, state);
    const count = `${this.rows.length} of ${this.table.images.length} images`;
    document.getElementById("count").textContent = this.table.done ? count : `${count}; scoring…`;
    rowsBox.style.height = `${this.rows.length * ROW}px`;
    this.drawn = "";
    this.draw();
    if (jumps && state.image && this.place() < 0 && !state.candidate) this.go(0);
  }

  draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4), last = first + Math.ceil(list.clientHeight / ROW) + 8;
    const key = `${first} ${last} ${state.image}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const kept = new Map([...rowsBox.children].map(row => [row.dataset.key, row]));
    rowsBox.replaceChildren(...this.rows.slice(first, last).map((row, offset) => this.row(row, first + offset, kept)));
  }

  row({number, image, value}, place, kept) {
    const key = `${number} ${value} ${place}`, made = kept.get(key) ?? this.make(number, image, value, place);
    made.dataset.key = key;
    made.setAttribute("aria-selected", image.name === state.image);
    return made;
  }

  make(number, image, value, place) {
    const facts = [image.patient, image.stratum, image.fold === undefined ? image.split : `fold ${image.fold}`].filter(Boolean).join(" · ");
    const bar = element("i", {className: "bar"});
    bar.style.setProperty("--share", value ?? 0);
    const made = element("div", {className: "item", title: image.name, onclick: () => set({image: image.name, candidate: ""})},
      element("img", {alt: "", loading: "lazy", fetchPriority: "low", width: 48, height: 48, ...(this.table.ready ? {src: api.picture(number, 128)} : {})}),
      element("span", {className: "names"}, element("b", {textContent: image.name}), element("small", {textContent: facts})),
      element("span", {className: "value"}, value === null ? "–" : value.toFixed(3), bar));
    made.setAttribute("role", "option");
    made.style.top = `${place * ROW}px`;
    return made;
  }

  // Thumbnails wait until the first image is there.
  ready() {
    if (this.table.ready) return;
    this.table.ready = true;
    rowsBox.replaceChildren();
    this.drawn = "";
    this.draw();
  }

  place() { return this.rows.findIndex(row => row.image.name === state.image); }

  go(place) {
    const row = this.rows[Math.min(Math.max(place, 0), this.rows.length - 1)];
    if (row) set({image: row.image.name, candidate: ""});
  }

  // Where to begin: at an image that somebody has predicted.
  first() { this.go(Math.max(0, this.rows.findIndex(row => row.value !== null))); }

  step(by) { this.go(this.place() + by); }

  reveal() {
    const top = this.place() * ROW;
    if (top < 0) return;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }
}
