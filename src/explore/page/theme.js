// Light or dark: as the system has it, until a person says otherwise.

import { store, stored } from "./store.js";

const NAME = "theme";
const system = matchMedia("(prefers-color-scheme: dark)");
let asked = stored(NAME);

export function startTheme() {
  show();
  system.addEventListener("change", show);
}

export function turnTheme() {
  asked = current() === "dark" ? "light" : "dark";
  store(NAME, asked);
  show();
}

function current() {
  return asked ?? (system.matches ? "dark" : "light");
}

function show() {
  document.documentElement.dataset.theme = current();
  document.getElementById("theme").textContent = current() === "dark" ? "Light" : "Dark";
}
