// One panel: the image, lossless tiles of what is seen closely, and outlines in SVG above.
import * as api from "./api.js";
import {state, numbers} from "./state.js";

const SVG = "http://www.w3.org/2000/svg";
export const MISSED = "var(--missed)", EXCESS = "var(--excess)";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
  return made;
}

export class Panel {
  // `source` is "truth" or the place of a source; `told` hears of the class under the pointer.
  constructor(name, source, table, told) {
    this.source = source;
    this.table = table;
    this.picture = element("img", {alt: "", draggable: false, className: "whole"});
    this.tiles = new Map();
    this.pixels = element("div", {className: "pixels"}, this.picture);
    this.svg = shape("svg", {class: "outlines", preserveAspectRatio: "none"});
    this.score = element("span", {className: "score"});
    this.note = element("p", {className: "note", hidden: true});
    this.view = element("div", {className: "view"}, this.pixels, this.svg, this.note);
    this.root = element("figure", {className: "panel"}, element("figcaption", {}, element("b", {textContent: name}), this.score), this.view);
    this.root.dataset.source = source;
    this.svg.addEventListener("pointerover", event => told(event.target.dataset.label, this));
    this.svg.addEventListener("pointerleave", () => told(undefined, this));
  }

  // Show an image; its outlines are drawn as soon as they are there.
  async show(number) {
    this.number = number;
    this.masks = this.truth = this.differences = null;
    this.fault = "";
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.svg.replaceChildren();
    this.note.hidden = true;
    const source = api.masks(number, this.source), truth = api.masks(number, "truth");
    try {
      const [masks, known] = await Promise.all([source, truth]);
      if (this.number !== number) return;
      Object.assign(this, {masks, truth: known});
      this.draw();
    } catch (error) {
      if (this.number === number) this.tell(error.message);
    }
  }

  tell(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  load(number, size) {
    const address = api.picture(number, size);
    if (this.picture.dataset.address === address) return;
    this.picture.dataset.address = address;
    const loaded = new Image();
    loaded.fetchPriority = "high";
    loaded.src = address;
    const current = () => this.picture.dataset.address === address;
    if (this.picture.dataset.number !== String(number)) this.picture.removeAttribute("src");  // never another image's pixels
    this.picture.dataset.number = number;
    loaded.decode().then(() => { if (current()) this.picture.src = address; }, () => {
      if (!current()) return;
      this.fault = "This image cannot be shown; bonepipe doctor tells why.";
      this.tell(this.fault);
    });
  }

  // Put image and outlines where the view is: `scale` pixels of the screen a pixel of the image, its centre at x, y.
  place({scale, x, y, width, height}, size, tileSide) {
    const left = width / 2 - x * scale, top = height / 2 - y * scale;
    const put = (made, row, column, wide, high) => {
      made.style.transform = `translate(${left + column * scale}px, ${top + row * scale}px)`;
      made.style.width = `${wide * scale}px`;
      made.style.height = `${high * scale}px`;
    };
    put(this.picture, 0, 0, size.width, size.height);
    this.pixels.classList.toggle("coarse", scale * devicePixelRatio >= 3);
    this.svg.setAttribute("viewBox", `${-left / scale} ${-top / scale} ${width / scale} ${height / scale}`);
    const wanted = scale * devicePixelRatio > 0.75 && Math.max(size.width, size.height) * scale > 1024 / devicePixelRatio;
    this.placeTiles(wanted ? {left, top, scale, width, height} : null, size, tileSide, put);
  }

  placeTiles(view, size, side, put) {
    const seen = new Set();
    if (view) {
      const first = offset => Math.max(0, Math.floor(-offset / view.scale / side));
      const last = (offset, extent, whole) => Math.min(Math.ceil(whole / side), Math.ceil((extent - offset) / view.scale / side));
      for (let row = first(view.top); row < last(view.top, view.height, size.height); row++)
        for (let column = first(view.left); column < last(view.left, view.width, size.width); column++) seen.add(`${row} ${column}`);
    }
    for (const [key, tile] of this.tiles) if (!seen.has(key)) { tile.remove(); this.tiles.delete(key); }
    for (const key of seen) {
      const [row, column] = key.split(" ").map(Number);
      if (!this.tiles.has(key)) {
        const tile = element("img", {alt: "", draggable: false, className: "tile", src: api.tile(this.number, row, column)});
        this.pixels.append(tile);
        this.tiles.set(key, tile);
      }
      const wide = Math.min(side, size.width - column * side), high = Math.min(side, size.height - row * side);
      put(this.tiles.get(key), row * side, column * side, wide, high);
    }
  }

  // Draw the outlines as the state asks for them.
  draw() {
    if (!this.masks) return;
    const predicted = this.source !== "truth", mode = state.mode;
    this.tell(this.fault || this.masks.known ? this.fault : predicted ? "No masks of this image" : "No annotation of this image");
    if (mode === "difference" && predicted && this.truth.known && this.masks.known) { this.drawDifferences(); return; }
    const doubted = this.table.doubted(), paths = [];
    if (mode !== "none") {
      for (const [label, {path}] of this.visible(this.masks)) paths.push(this.mask(label, path, doubted, mode === "fill"));
      if (predicted && state.truth) for (const [, {path}] of this.visible(this.truth)) paths.push(shape("path", {d: path, class: "true"}));
    }
    this.svg.replaceChildren(...paths);
  }

  visible(masks) {
    const hidden = numbers("hide");
    return Object.entries(masks.classes).filter(([label, {path}]) => path && !hidden.has(Number(label)));
  }

  mask(label, path, doubted, filled) {
    const beside = doubted && !doubted.has(Number(label));
    const colour = beside ? "var(--faint)" : this.table.classes[label].colour;
    const opacity = beside ? 0 : filled ? 0.45 : doubted ? 0.25 : 0;
    const made = shape("path", {d: path, class: "mask", stroke: colour, fill: colour, "fill-opacity": opacity});
    made.dataset.label = label;
    return made;
  }

  async drawDifferences() {
    const number = this.number;
    try { this.differences ??= await api.differences(number, this.source); } catch (error) { this.tell(error.message); return; }
    if (this.number !== number || state.mode !== "difference") return;
    const hidden = numbers("hide"), paths = [];
    for (const [, {path}] of this.visible(this.truth)) paths.push(shape("path", {d: path, class: "agreed"}));
    for (const [label, {missed, excess}] of Object.entries(this.differences.classes)) {
      if (hidden.has(Number(label))) continue;
      for (const [path, colour, kind] of [[missed, MISSED, "missed"], [excess, EXCESS, "excess"]]) {
        if (!path) continue;
        const made = shape("path", {d: path, class: kind, fill: colour});
        made.dataset.label = label;
        paths.push(made);
      }
    }
    this.svg.replaceChildren(...paths);
  }
}
