// The panels side by side: one view of all, moved by mouse, touch and keys.
import * as api from "./api.js";
import {state, set, watch} from "./state.js";
import {Panel} from "./panel.js";

const LARGEST = 40;  // pixels of the screen a pixel of the image
const STEP = 1.25;

export class Stage {
  constructor(root, table, tell) {
    Object.assign(this, {root, table, tell, panels: [], size: null, pointers: new Map(), drawn: 0});
    watch(["panels"], () => this.arrange());
    watch(["image"], () => this.show());
    watch(["z", "x", "y"], () => this.place());
    watch(["mode", "truth", "hide", "candidate", "tab"], () => this.panels.forEach(panel => panel.draw()));
    watch(["level", "window", "invert"], () => this.brighten());
    new ResizeObserver(() => this.place()).observe(root);
    root.addEventListener("wheel", event => this.wheel(event), {passive: false});
    root.addEventListener("pointerdown", event => this.press(event));
    root.addEventListener("pointermove", event => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, event => this.pointers.delete(event.pointerId));
    root.addEventListener("dblclick", event => this.toggleNative(event));
    root.addEventListener("contextmenu", event => event.preventDefault());
    root.addEventListener("pointerleave", () => this.tell.place(""));
  }

  arrange() {
    const wanted = this.table.panels();
    const kept = new Map(this.panels.map(panel => [panel.source, panel]));
    this.panels = wanted.map(source => kept.get(source)
      ?? new Panel(this.table.nameOf(source), source, this.table, label => this.tell.label(label, source)));
    this.root.replaceChildren(...this.panels.map(panel => panel.root));
    if (this.number !== undefined) for (const panel of this.panels) if (!kept.has(panel.source)) panel.show(this.number);
    this.brighten();
    this.place();
  }

  // As many columns as show the image largest.
  arrangeColumns() {
    const {clientWidth: width, clientHeight: height} = this.root, count = this.panels.length;
    const scale = columns => Math.min(width / columns / this.size.width, height / Math.ceil(count / columns) / this.size.height);
    const columns = this.panels.map((_, place) => place + 1).reduce((best, next) => scale(next) > scale(best) * 1.1 ? next : best);
    this.root.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  }

  async show() {
    const number = this.table.number();
    if (number === this.number || number === undefined) return;
    Object.assign(this, {number, size: null});
    const {width: wide, height: high} = this.box();
    const guess = this.sizeFor(Math.min(wide, high) * devicePixelRatio);  // the picture need not wait for the outlines
    for (const panel of this.panels) { panel.load(number, guess); panel.show(number); }
    const {height, width} = await api.masks(number, "truth").catch(error => { this.tell.error(error); return {}; });
    if (this.number !== number || !height) return;
    this.size = {height, width};
    this.place();
    this.tell.shown(number);
  }

  // Width and height of a panel's view in pixels of the screen.
  box() {
    const view = this.panels[0]?.view;
    return view ? {width: view.clientWidth, height: view.clientHeight} : {width: 0, height: 0};
  }

  fit() {
    const {width, height} = this.box();
    return Math.min(width / this.size.width, height / this.size.height);
  }

  view() {
    const scale = state.z === "" ? this.fit() : Number(state.z);
    const x = state.x === "" ? 0.5 : Number(state.x), y = state.y === "" ? 0.5 : Number(state.y);
    return {scale, x: x * this.size.width, y: y * this.size.height, ...this.box()};
  }

  place() {
    if (!this.size || this.drawn) return;
    this.drawn = requestAnimationFrame(() => {
      this.drawn = 0;
      if (!this.size || !this.panels.length) return;
      this.arrangeColumns();
      if (!this.box().width) return;
      const view = this.view(), seen = Math.max(this.size.width, this.size.height) * Math.min(view.scale, this.fit()) * devicePixelRatio;
      for (const panel of this.panels) { panel.load(this.number, this.sizeFor(seen)); panel.place(view, this.size, this.table.tile); }
      this.tell.scale(view.scale * devicePixelRatio);
    });
  }

  // Of the sizes that the server makes, the one for a picture whose longer side takes so many pixels of the screen.
  sizeFor(pixels) { return this.table.sizes.find(side => side > 128 && side >= pixels * 0.9) ?? this.table.sizes.at(-1); }

  // Another scale, the point under (x, y) of a panel staying where it is; the middle unless told.
  zoom(factor, point) {
    if (!this.size) return;
    const {scale, x, y, width, height} = this.view(), fit = this.fit();
    const next = Math.min(Math.max(scale * factor, Math.min(fit, 1 / devicePixelRatio)), Math.max(LARGEST, fit));
    const from = point ?? {x: width / 2, y: height / 2};
    const shift = (centre, at, extent) => centre + (at - extent / 2) * (1 / scale - 1 / next);
    this.go(next, shift(x, from.x, width), shift(y, from.y, height));
  }

  go(scale, x, y) {
    if (Math.abs(scale / this.fit() - 1) < 0.001) { set({z: "", x: "", y: ""}); return; }
    const {width, height} = this.box();
    const inside = (centre, extent, whole) => {
      const half = Math.min(extent / scale / 2, whole / 2);  // what is smaller than the panel stays in its middle
      return Math.min(Math.max(centre, half), whole - half) / whole;
    };
    set({z: scale.toFixed(4), x: inside(x, width, this.size.width).toFixed(5), y: inside(y, height, this.size.height).toFixed(5)});
  }

  pan(across, down) {
    if (!this.size || state.z === "") return;
    const {scale, x, y} = this.view();
    this.go(scale, x - across / scale, y - down / scale);
  }

  native() {
    const {x, y} = this.view();
    this.go(1 / devicePixelRatio, x, y);
  }

  // Show a box [top, left, bottom, right] of the image with some of what is about it.
  focus([top, left, bottom, right]) {
    if (!this.size) return;
    const {width, height} = this.box();
    const scale = Math.min(width / (right - left), height / (bottom - top)) / 1.8;
    this.go(Math.max(Math.min(scale, LARGEST / 4), this.fit()), (left + right) / 2, (top + bottom) / 2);
  }

  step(direction) { this.zoom(direction > 0 ? STEP : 1 / STEP); }

  brighten() {
    const level = Number(state.level), window_ = Number(state.window), sign = state.invert ? -1 : 1;
    const slope = sign * 256 / window_, intercept = 0.5 - slope * level / 256;
    for (const part of document.querySelectorAll("#window feComponentTransfer > *")) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", intercept);
    }
    const plain = level === 128 && window_ === 256 && sign === 1;
    for (const panel of this.panels) panel.pixels.classList.toggle("adjusted", !plain);
  }

  point(event) {
    const view = event.target.closest?.(".view");
    if (!view) return null;
    const box = view.getBoundingClientRect();
    return {x: event.clientX - box.left, y: event.clientY - box.top};
  }

  wheel(event) {
    const point = this.point(event);
    if (!point) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 24 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), point);
  }

  press(event) {
    if (!this.point(event)) return;
    this.pointers.set(event.pointerId, {x: event.clientX, y: event.clientY});
    this.adjusts = event.button === 2 || event.shiftKey;
    if (event.pointerType !== "touch") event.target.closest(".view").setPointerCapture(event.pointerId);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId), point = this.point(event);
    if (point && this.size) this.tellPlace(point);
    if (!before) return;
    const now = {x: event.clientX, y: event.clientY}, across = now.x - before.x, down = now.y - before.y;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other && point) {
      const apart = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
      this.zoom(apart(now, other) / Math.max(1, apart(before, other)), point);
      this.pan(across / 2, down / 2);
    } else if (this.adjusts) {
      this.shade(-down, across);
    } else this.pan(across, down);
  }

  shade(level, window_) {
    const within = (value, low, high) => Math.round(Math.min(Math.max(value, low), high));
    set({level: within(Number(state.level) + level, 0, 255), window: within(Number(state.window) + window_, 4, 510)});
  }

  toggleNative(event) {
    const point = this.point(event);
    if (!point || !this.size) return;
    if (state.z !== "") set({z: "", x: "", y: ""});
    else this.zoom(Math.max(1 / devicePixelRatio / this.fit(), 2), point);
  }

  tellPlace(point) {
    const {scale, x, y, width, height} = this.view();
    const column = Math.floor(x + (point.x - width / 2) / scale), row = Math.floor(y + (point.y - height / 2) / scale);
    const inside = row >= 0 && column >= 0 && row < this.size.height && column < this.size.width;
    this.tell.place(inside ? `row ${row}, column ${column} of ${this.size.height} × ${this.size.width}` : "");
  }
}
