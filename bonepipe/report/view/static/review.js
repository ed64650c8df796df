// Candidates for wrong annotations: one after the other, accepted or rejected.
import * as api from "./api.js";
import {state, set, watch} from "./state.js";
import {element} from "./panel.js";

const box = document.getElementById("candidates"), summary = document.getElementById("review-summary");
const bar = document.getElementById("decision"), text = document.getElementById("decision-text"), buttons = document.getElementById("decision-buttons");
const WORDS = {
  permute: ["Accept: exchange labels", "exchange labels"], replace: ["Accept: take the prediction's mask", "take the prediction's mask"],
  drop: ["Accept: leave this class out", "class left out"], "drop-image": ["Leave the image out", "image left out"],
  keep: ["Reject: the annotation is right", "the annotation is right"], open: ["Undo", "open"],
};

export class Review {
  constructor(table, classes, tell) {
    Object.assign(this, {table, classes, tell, candidates: []});
    watch(["tab", "candidate"], () => this.mark());
  }

  async load() { this.take(await api.candidates()); }

  take({candidates, path, hint}) {
    this.candidates = candidates;
    const counted = candidates.reduce((sum, {state: {action, by}}) => ({...sum, [by || action]: (sum[by || action] ?? 0) + 1}), {});
    summary.replaceChildren(...(hint
      ? ["No candidates yet. ", element("code", {textContent: hint}), " ranks suspicious annotations; then start the viewer again."]
      : [`${candidates.length} candidates: ${counted.decided ?? 0} decided, ${counted.suggested ?? 0} suggested, ${counted.open ?? 0} open. Decisions go to `, element("code", {textContent: path}), "."]));
    box.replaceChildren(...candidates.map(candidate => this.row(candidate)));
    this.mark();
    this.tell.redraw();
  }

  row(candidate) {
    const {rank, image, classes, kind, score, state: {action, by}} = candidate;
    const labels = classes.length > 3 ? `${classes.length} classes` : classes.join(", ");
    const made = element("div", {className: "item candidate", onclick: () => this.open(candidate)},
      element("b", {className: "rank", textContent: rank}),
      element("span", {className: "names"}, element("b", {textContent: `${kind}: ${labels}`}), element("small", {textContent: image})),
      element("span", {className: `chip ${by || action} ${action}`, textContent: action === "open" ? score.toFixed(2) : action === "keep" ? "rejected" : by === "suggested" ? "suggested" : "accepted"}));
    made.setAttribute("role", "option");
    made.dataset.rank = rank;
    return made;
  }

  chosen() { return state.tab === "review" ? this.candidates.find(({rank}) => String(rank) === state.candidate) : undefined; }

  // The classes in doubt, by number; null where no candidate is looked at.
  doubted() {
    const chosen = this.chosen();
    return chosen ? new Set(chosen.classes.map(name => this.table.classes.findIndex(known => known.name === name))) : null;
  }

  open(candidate) { if (candidate) set({image: candidate.image, candidate: candidate.rank, z: "", x: "", y: ""}); }

  step(by) {
    const place = this.candidates.findIndex(({rank}) => String(rank) === state.candidate);
    this.open(this.candidates[Math.min(Math.max(place + by, 0), this.candidates.length - 1)]);
  }

  mark() {
    for (const tab of document.querySelectorAll("[data-tab]")) tab.setAttribute("aria-selected", tab.dataset.tab === state.tab);
    document.getElementById("browse").hidden = state.tab !== "images";
    document.getElementById("review").hidden = state.tab !== "review";
    for (const row of box.children) row.setAttribute("aria-selected", row.dataset.rank === state.candidate);
    box.querySelector("[aria-selected=true]")?.scrollIntoView({block: "nearest"});
    const chosen = this.chosen();
    bar.hidden = !chosen;
    if (!chosen) return;
    this.describe(chosen);
    this.shown();
  }

  describe(candidate) {
    const {rank, kind, score, remark, suggestion, actions, state: {action, by}} = candidate;
    const now = action === "open" ? `suggested: ${suggestion}` : `${by}: ${WORDS[action][1]}`;
    text.replaceChildren(element("b", {textContent: `${rank}. ${kind} ${score.toFixed(2)}`}), ` ${remark} `, element("small", {textContent: `(${now})`}));
    const shown = action !== "open" && by === "decided" ? [...actions, "open"] : actions;
    buttons.replaceChildren(...shown.map(name => {
      const made = element("button", {type: "button", textContent: WORDS[name][0], onclick: () => this.decide(name)});
      made.dataset.action = name;
      made.setAttribute("aria-pressed", by === "decided" && name === action);
      made.classList.toggle("suggested", name === (suggestion === "look" ? "" : suggestion));
      return made;
    }));
  }

  // The action that the key for "accept" stands for.
  usual() {
    const chosen = this.chosen();
    return chosen && (chosen.actions.includes(chosen.suggestion) ? chosen.suggestion : chosen.actions[0]);
  }

  async decide(action) {
    const chosen = this.chosen();
    if (!chosen || !action) return;
    try { this.take(await api.decide(chosen.rank, action)); } catch (error) { this.tell.error(error); }
  }

  // Where the image of a candidate is there, look at the place.
  shown() {
    const doubted = this.doubted();
    if (doubted && state.z === "" && this.classes.number === this.table.number()) this.classes.look(...doubted);
  }
}
