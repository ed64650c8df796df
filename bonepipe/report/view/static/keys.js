// Keys, and the sheet that lists them.
import {element} from "./panel.js";

const SHOWN = {" ": "Space", ArrowRight: "→", ArrowLeft: "←", "Shift+ArrowLeft": "Shift ←", "Shift+ArrowRight": "→", "Shift+ArrowUp": "↑", "Shift+ArrowDown": "↓"};
const shown = name => SHOWN[name] ?? name;
const sheet = document.getElementById("help");

// `keys`: rows of [keys, what they do, what is called].
export function listen(keys) {
  document.getElementById("keys").replaceChildren(...keys.map(([names, says]) => element("div", {},
    element("dt", {}, ...[...new Set(names.map(shown))].map(name => element("kbd", {textContent: name}))), element("dd", {textContent: says}))));
  const actions = new Map(keys.flatMap(([names, , act]) => names.map(name => [name, act])));
  addEventListener("keydown", event => {
    const typing = event.target.matches("input:not([type=range]), select, textarea") || sheet.open;
    if (event.key === "Escape" && event.target.matches("input, select")) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.shiftKey && event.key.startsWith("Arrow") ? `Shift+${event.key}` : event.key;
    const act = actions.get(name);
    if (!act || (name === " " && event.target.matches("button"))) return;
    event.preventDefault();
    act(event);
  });
}

export function help() { if (sheet.open) sheet.close(); else sheet.showModal(); }
