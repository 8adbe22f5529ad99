// Small pictures: the wall of seeds, and those of kept states. They are made one after the other,
// those in sight only, and after whatever else is wanted.

import { toText } from "./state.js";

const NUM_CELLS = 24;
// The wall follows the controls when they have rested for so long.
const REST_MS = 700;

// Makes pictures for places that are in sight.
export class Thumbs {
  constructor(server) {
    this.server = server;
    this.wanted = new Set();
    this.isBusy = false;
    this.sight = new IntersectionObserver((entries) => {
      for (const { target: place, isIntersecting } of entries) {
        if (isIntersecting && place.dataset.text !== place.dataset.made) this.wanted.add(place);
        else this.wanted.delete(place);
      }
      this.#run();
    }, { rootMargin: "100px" });
  }

  // `place` is to show the state `text`, as soon as it is seen.
  want(place, text) {
    place.dataset.text = text;
    this.sight.unobserve(place);
    this.sight.observe(place);
  }

  forget(place) {
    this.sight.unobserve(place);
    this.wanted.delete(place);
    const url = place.firstChild.src;
    if (url.startsWith("blob:")) URL.revokeObjectURL(url);
  }

  async #run() {
    if (this.isBusy) return;
    this.isBusy = true;
    for (let place; (place = this.wanted.values().next().value); ) {
      this.wanted.delete(place);
      const text = place.dataset.text;
      try {
        const blob = await this.server.picture(text, "wall");
        if (place.isConnected && place.dataset.text === text) show(place, blob, text);
      } catch {
        this.wanted.clear(); // the large picture says what is wrong; the next look tries again
      }
    }
    this.isBusy = false;
  }
}

function show(place, blob, text) {
  const image = place.firstChild;
  const before = image.src;
  image.src = URL.createObjectURL(blob);
  image.hidden = false;
  place.dataset.made = text;
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
}

// A place for a small picture, with a name below; pressed, it is picked.
export function cell(name, label, picked) {
  const cell = Object.assign(document.createElement("div"), { className: "cell" });
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.setAttribute("aria-label", label);
  const place = Object.assign(document.createElement("span"), { className: "thumb" });
  place.append(Object.assign(new Image(), { alt: "", hidden: true }));
  button.append(place, Object.assign(document.createElement("span"), { className: "name", textContent: name }));
  button.addEventListener("click", picked);
  cell.append(button);
  return { cell, button, place };
}

// Other seeds with the settings of the state.
export class Wall {
  // `picked(seed)` is called when a person picks one.
  constructor(facts, thumbs, picked) {
    Object.assign(this, { facts, thumbs, picked, first: 0, cells: [], timer: null, state: null });
    this.folder = document.getElementById("wall-cells");
    this.input = document.getElementById("wall-first");
    document.getElementById("wall-back").addEventListener("click", () => this.page(-1));
    document.getElementById("wall-on").addEventListener("click", () => this.page(1));
    this.input.addEventListener("change", () => this.input.checkValidity() && this.#go(Number(this.input.value)));
  }

  page(by) {
    this.#go(this.first + by * NUM_CELLS);
  }

  // The controls have changed.
  follow(state) {
    const isFirst = this.state === null;
    this.state = structuredClone(state);
    this.#mark();
    clearTimeout(this.timer);
    if (isFirst) this.#go(0);
    else this.timer = setTimeout(() => this.#want(), REST_MS);
  }

  #go(first) {
    this.first = Math.min(Math.max(first, 0), 2 ** 32 - NUM_CELLS);
    this.input.value = String(this.first);
    for (const { place } of this.cells) this.thumbs.forget(place);
    this.cells = Array.from({ length: NUM_CELLS }, (_, idx) => {
      const seed = this.first + idx;
      return { seed, ...cell(String(seed), `Seed ${seed}`, () => this.picked(seed)) };
    });
    this.folder.replaceChildren(...this.cells.map(({ cell }) => cell));
    this.#mark();
    this.#want();
  }

  #mark() {
    for (const { seed, cell } of this.cells) cell.setAttribute("aria-current", String(seed === this.state?.seed));
  }

  #want() {
    for (const { seed, place } of this.cells) {
      const text = toText({ ...this.state, seed }, this.facts);
      if (place.dataset.text !== text) this.thumbs.want(place, text);
    }
  }
}
