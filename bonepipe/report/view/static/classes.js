// The classes of the image that is shown: which are drawn, and the Dice of each source.
import * as api from "./api.js";
import {state, set, watch, numbers} from "./state.js";
import {element} from "./panel.js";

const head = document.getElementById("class-head"), body = document.getElementById("class-rows");

export class Classes {
  constructor(table, stage) {
    Object.assign(this, {table, stage});
    for (const button of document.querySelectorAll("[data-classes]")) button.addEventListener("click", () => this.all(button.dataset.classes === "all"));
    watch(["image", "panels"], () => this.update());
    watch(["hide"], () => this.mark());
  }

  all(shown) { set({hide: shown ? "" : this.table.classes.map((_, label) => label).join(",")}); }

  toggle(label) {
    const hidden = numbers("hide");
    if (!hidden.delete(label)) hidden.add(label);
    set({hide: [...hidden].sort((a, b) => a - b).join(",")});
  }

  solo(label) {
    const others = this.table.classes.map((_, other) => other).filter(other => other !== label).join(",");
    set({hide: state.hide === others ? "" : others});
  }

  async update() {
    const number = this.table.number(), sources = this.table.panels().filter(source => source !== "truth");
    if (number === undefined) return;
    const image = this.table.images[number];
    document.getElementById("facts").textContent = [image.name, `patient ${image.patient}`, image.split, image.fold !== undefined && `fold ${image.fold}`,
      image.stratum, image.sex, image.age !== undefined && `${image.age} years`, image.side].filter(Boolean).join(" · ");
    const answers = await Promise.allSettled(["truth", ...sources].map(source => api.masks(number, source)));
    if (number !== this.table.number()) return;
    const [truth, ...others] = answers.map(answer => answer.value ?? {classes: {}});
    Object.assign(this, {masks: [truth, ...others], number});
    head.replaceChildren(element("th", {textContent: "Class"}), ...sources.map(source => element("th", {textContent: this.table.nameOf(source), title: `Dice of ${this.table.nameOf(source)}`})));
    body.replaceChildren(...this.table.classes.map(({name, colour}, label) => this.row(name, colour, label, others)));
    this.mark();
  }

  row(name, colour, label, others) {
    const swatch = element("i", {className: "swatch"});
    swatch.style.background = colour;
    const toggle = element("button", {type: "button", className: "class", title: "Show or hide; double-click shows it alone",
      onclick: () => this.toggle(label), ondblclick: () => this.solo(label)}, swatch, name);
    const look = element("button", {type: "button", className: "look", title: `Look at ${name}`, onclick: () => this.look(label)});
    look.setAttribute("aria-label", `Look at ${name}`);
    const cells = others.map(({classes}) => {
      const value = classes[label]?.dice, cell = element("td", {className: "number", textContent: value === undefined || value === null ? "–" : value.toFixed(3)});
      if (value !== undefined && value !== null) cell.style.setProperty("--share", value);
      return cell;
    });
    const made = element("tr", {}, element("td", {}, toggle, look), ...cells);
    made.dataset.label = label;
    return made;
  }

  mark() {
    const hidden = numbers("hide");
    for (const row of body.rows) row.querySelector(".class").setAttribute("aria-pressed", !hidden.has(Number(row.dataset.label)));
  }

  // Zoom to some classes, wherever anybody has drawn them.
  look(...labels) {
    const boxes = (this.masks ?? []).flatMap(({classes}) => labels.map(label => classes[label]?.box)).filter(Boolean);
    if (!boxes.length) return;
    const edge = (side, pick) => pick(...boxes.map(box => box[side]));
    this.stage.focus([edge(0, Math.min), edge(1, Math.min), edge(2, Math.max), edge(3, Math.max)]);
  }
}
