// States that a person keeps: in this browser, one list for each model, and as JSON files.

import { cell } from "./wall.js";
import { fromText, inWords, toText } from "./state.js";
import { save } from "./save.js";
import { store, stored } from "./store.js";

const KIND = "stylegan2-c2d favourites";
const MOST = 1000;

export class Favourites {
  // `picked(state)` when one is picked, `told(words)` when there is something to say.
  constructor(facts, thumbs, picked, told) {
    Object.assign(this, { facts, thumbs, picked, told, removed: null, places: [] });
    this.key = `favourites ${facts.model}`;
    this.texts = this.#stored();
    this.folder = document.getElementById("favourites-cells");
    const on = (id, act) => document.getElementById(id).addEventListener("click", act);
    const file = document.getElementById("import-file");
    on("export", () => this.#export());
    on("import", () => file.click());
    on("undo", () => this.#undo());
    file.addEventListener("change", async () => {
      if (file.files[0]) this.#import(await file.files[0].text());
      file.value = "";
    });
    // another window of the same page
    addEventListener("storage", (event) => {
      if (event.key !== this.key) return;
      this.texts = this.#stored();
      this.#show();
    });
    this.#show();
  }

  get states() {
    return this.texts.map((text) => fromText(text, this.facts));
  }

  keep(state) {
    const text = toText(state, this.facts);
    if (this.texts.includes(text)) return this.told("Kept already.");
    if (this.texts.length >= MOST) return this.told(`${MOST} are kept; remove some first.`);
    this.#set([...this.texts, text]);
    this.told(`Kept: ${inWords(state, this.facts)}.`);
  }

  #remove(text) {
    this.removed = { text, idx: this.texts.indexOf(text) };
    this.#set(this.texts.filter((other) => other !== text));
    document.getElementById("undo").hidden = false;
    this.told("Removed. Undo brings it back.");
  }

  #undo() {
    const { text, idx } = this.removed;
    this.#set(this.texts.toSpliced(idx, 0, text));
    document.getElementById("undo").hidden = true;
    this.told("It is back.");
  }

  #export() {
    const json = { kind: KIND, model: this.facts.model, favourites: this.texts };
    save(new Blob([JSON.stringify(json, null, 2)], { type: "application/json" }), "favourites.json");
  }

  #import(text) {
    let json;
    try {
      json = JSON.parse(text);
    } catch {
      json = {};
    }
    if (json?.kind !== KIND || !Array.isArray(json.favourites)) {
      return this.told("Expected a file that “Export” has written; nothing was taken in.");
    }
    const all = json.favourites.filter((text) => typeof text === "string");
    const fresh = all.map((text) => toText(fromText(text, this.facts), this.facts));
    const before = this.texts.length;
    this.#set([...new Set([...this.texts, ...fresh])].slice(0, MOST));
    const other = json.model === this.facts.model ? "" : " They were kept for other weights, so pictures differ.";
    this.told(`${this.texts.length - before} taken in.${other}`);
  }

  #stored() {
    try {
      const texts = JSON.parse(stored(this.key));
      return Array.isArray(texts) ? texts.filter((text) => typeof text === "string") : [];
    } catch {
      return [];
    }
  }

  #set(texts) {
    this.texts = texts;
    if (!store(this.key, JSON.stringify(texts))) {
      this.told("This browser keeps nothing (a private window?); export before it is closed.");
    }
    this.#show();
  }

  #show() {
    for (const place of this.places) this.thumbs.forget(place);
    const cells = this.texts.map((text) => {
      const state = fromText(text, this.facts);
      const words = inWords(state, this.facts);
      const made = cell(words, words, () => this.picked(state));
      made.button.title = words;
      const remove = Object.assign(document.createElement("button"), { type: "button", className: "remove", textContent: "×" });
      remove.setAttribute("aria-label", `Remove ${words}`);
      remove.addEventListener("click", () => this.#remove(text));
      made.cell.append(remove);
      return { ...made, text };
    });
    this.places = cells.map(({ place }) => place);
    this.folder.replaceChildren(...cells.map(({ cell }) => cell));
    for (const { place, text } of cells) this.thumbs.want(place, text);
    document.getElementById("kept-count").textContent = String(this.texts.length);
    document.getElementById("favourites-empty").hidden = this.texts.length > 0;
    document.getElementById("export").disabled = this.texts.length === 0;
  }
}
