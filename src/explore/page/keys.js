// Shortcuts: single keys, unless somebody writes or has switched them off.

import { store, stored } from "./store.js";

const NAME = "shortcuts";

// `acts`: key, words and what it does.
export function listen(acts) {
  const dialog = document.getElementById("shortcuts");
  const isOn = document.getElementById("shortcuts-on");
  isOn.checked = stored(NAME) !== "off";
  isOn.addEventListener("change", () => store(NAME, isOn.checked ? "on" : "off"));
  const open = () => dialog.open || dialog.showModal();
  document.getElementById("help").addEventListener("click", open);
  const all = [...acts, { keys: ["?"], shown: "?", words: "this list", act: open }];
  for (const { shown, words } of all) {
    const term = document.createElement("dt");
    for (const key of shown.split(" ")) term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
    const meaning = Object.assign(document.createElement("dd"), { textContent: words });
    document.getElementById("shortcuts-list").append(term, meaning);
  }
  addEventListener("keydown", (event) => {
    if (!isOn.checked || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const { target, key } = event;
    const writes = target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
    const isArrow = key.startsWith("Arrow");
    if ((writes && !(target.type === "radio" && !isArrow)) || (isArrow && takesArrows(target))) return;
    const found = all.find(({ keys }) => keys.includes(key.length === 1 ? key.toLowerCase() : key));
    if (!found) return;
    event.preventDefault();
    found.act(key);
  });
}

function takesArrows(target) {
  return target.matches?.("input[type=range], [role=tab], pre, code");
}
