// The panel: from its controls to a state and back.

import { className, randomSeed } from "./state.js";

const $ = (id) => document.getElementById(id);
const HINT = "What the weights themselves can change most, each with its strength.";
// Directions go this far on the sliders, in standard deviations; the address may say more.
const REACH = 6;

export class Controls {
  // `changed()` is called whenever a person has changed the state.
  constructor(facts, state, server, changed) {
    Object.assign(this, { facts, state, server, changed, looking: null, looked: "" });
    this.#prepare();
    this.#listen();
    this.show();
  }

  // Takes another state in.
  set(state) {
    Object.assign(this.state, structuredClone(state));
    this.show();
  }

  change(parts) {
    Object.assign(this.state, parts);
    this.show();
    this.changed();
  }

  stepSeed(by) {
    this.change({ seed: (this.state.seed + by + 2 ** 32) % 2 ** 32 });
  }

  // All controls as the state has it.
  show() {
    const { state, facts } = this;
    setText($("controls-seed"), state.seed);
    slide($("controls-psi"), state.psi, state.psi.toFixed(2));
    $("controls-class").value = String(state.class);
    for (const radio of document.querySelectorAll("input[name=noise]")) radio.checked = radio.value === state.noise;
    $("noise-seed-field").hidden = state.noise !== "random";
    $("controls-noise-seed").placeholder = `as the picture's, ${state.seed}`;
    setText($("controls-noise-seed"), state.noise_seed ?? "");
    setText($("controls-mix"), state.mix ?? "");
    slide($("controls-share"), state.mix_share, `${Math.round(state.mix_share * 100)} %`);
    const layer = (idx) => `${idx} · ${facts.layers[idx]} px`;
    for (const [id, idx] of [["controls-mix-first", state.mix_first], ["controls-mix-last", state.mix_last],
      ["controls-first", state.first], ["controls-last", state.last]]) slide($(id), idx, layer(idx));
    strip($("mix-strip"), state.mix_first, state.mix_last, state.mix === null ? 0.25 : 0.25 + 0.75 * state.mix_share);
    const moved = state.by.filter((by) => by !== 0).length;
    strip($("directions-strip"), state.first, state.last, moved > 0 ? 1 : 0.4);
    state.by.forEach((by, idx) => slide($(`controls-by-${idx}`), by, signed(by)));
    const isMixed = state.mix !== null && state.mix_share > 0;
    $("mix-note").textContent = isMixed ? `seed ${state.mix}, ${Math.round(state.mix_share * 100)} %` : "";
    $("directions-note").textContent = moved > 0 ? `${moved} moved` : "";
    for (const id of ["controls-share", "controls-mix-first", "controls-mix-last"]) $(id).disabled = state.mix === null;
    $("mix-none").disabled = state.mix === null;
    $("directions-reset").disabled = moved === 0;
    this.#look();
  }

  // The strengths of the directions: they take a while for layers that were not asked for before.
  async #look() {
    const { first, last } = this.state;
    const layers = `${first}-${last}`;
    if (!$("directions-group").open || this.looked === layers) return;
    this.looked = layers;
    this.looking?.abort();
    this.looking = new AbortController();
    const { signal } = this.looking;
    const late = setTimeout(() => ($("directions-hint").textContent = "Looking for what these layers can change …"), 200);
    signal.addEventListener("abort", () => clearTimeout(late));
    try {
      const strengths = await this.server.directions(first, last, signal);
      $("directions-hint").textContent = HINT;
      for (let idx = 0; idx < this.facts.num_directions; idx++) $(`strength-${idx}`).textContent = strengths[idx].toFixed(1);
    } catch {
      if (this.looked === layers) this.looked = ""; // the large picture says what is wrong
    }
    clearTimeout(late);
  }

  // What depends on the model: bounds, classes, layers, directions.
  #prepare() {
    const { facts } = this;
    const last = facts.layers.length - 1;
    bound($("controls-psi"), facts.bounds.psi[0] < -1 ? [-1, 1.5] : facts.bounds.psi);
    for (const id of ["controls-mix-first", "controls-mix-last"]) $(id).max = String(last);
    for (const id of ["controls-first", "controls-last"]) $(id).max = String(last - 1);
    $("class-field").hidden = facts.num_classes === 0;
    for (let idx = 0; idx < facts.num_classes; idx++) {
      const name = facts.class_names[idx];
      $("controls-class").append(new Option(name ? `${name} (${idx})` : className(idx, facts), String(idx)));
    }
    for (const strip of [$("mix-strip"), $("directions-strip")]) {
      facts.layers.forEach((res, idx) => {
        const bar = strip.appendChild(document.createElement("span"));
        bar.textContent = idx === 0 || facts.layers[idx - 1] !== res ? String(res) : "";
      });
    }
    for (let idx = 0; idx < facts.num_directions; idx++) $("directions").append(directionField(idx));
  }

  #listen() {
    const on = (id, kind, act) => $(id).addEventListener(kind, act);
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    on("seed-back", "click", () => this.stepSeed(-1));
    on("seed-on", "click", () => this.stepSeed(1));
    on("seed-random", "click", () => this.change({ seed: randomSeed() }));
    on("mix-random", "click", () => this.change({ mix: randomSeed() }));
    on("mix-none", "click", () => this.change({ mix: null }));
    on("noise-seed-random", "click", () => this.change({ noise_seed: randomSeed() }));
    on("directions-reset", "click", () => this.change({ by: this.state.by.map(() => 0) }));
    on("controls", "focusout", () => this.show()); // what cannot be is replaced by what is
    on("directions-group", "toggle", () => this.#look());
    on("controls", "input", (event) => this.#read(event.target));
    // twice on a direction: back to 0
    on("directions", "dblclick", (event) => {
      if (event.target.type === "range") this.#write(event.target, 0);
    });
  }

  #write(slider, value) {
    slider.value = String(value);
    this.#read(slider);
  }

  #read(control) {
    const { state } = this;
    const value = Number(control.value);
    const isSeed = control.type === "number";
    if (isSeed && !control.checkValidity()) return;
    if (isSeed && control.value === "") {
      if (control.name === "seed") return; // while it is being written
      return this.change({ [control.name]: null });
    }
    if (control.name === "noise") return this.change({ noise: control.value });
    if (control.name.startsWith("by-")) {
      const by = [...state.by];
      by[Number(control.name.slice(3))] = value;
      return this.change({ by });
    }
    // of a range of layers the other end gives way
    const parts = { [control.name]: value };
    if (control.name.endsWith("first")) parts[control.name.replace("first", "last")] = Math.max(value, state[control.name.replace("first", "last")]);
    if (control.name.endsWith("last")) parts[control.name.replace("last", "first")] = Math.min(value, state[control.name.replace("last", "first")]);
    this.change(parts);
  }
}

function directionField(idx) {
  const field = document.createElement("div");
  field.className = "field slider";
  const id = `controls-by-${idx}`;
  const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: `Direction ${idx} ` });
  label.append(Object.assign(document.createElement("span"), { className: "term", id: `strength-${idx}` }));
  const output = document.createElement("output");
  output.htmlFor = id;
  const slider = Object.assign(document.createElement("input"), { type: "range", id, name: `by-${idx}`, step: "0.1" });
  bound(slider, [-REACH, REACH]);
  field.append(label, output, slider);
  return field;
}

function bound(slider, [least, most]) {
  [slider.min, slider.max] = [String(least), String(most)];
}

// A slider, the figure beside it, and its filled part, which begins at 0 where it has one.
export function slide(slider, value, text) {
  const [least, most] = [Number(slider.min), Number(slider.max)];
  const share = (of) => `${(100 * (Math.min(Math.max(of, least), most) - least)) / (most - least || 1)}%`;
  if (Number(slider.value) !== value) slider.value = String(value);
  slider.style.setProperty("--share", share(value));
  slider.style.setProperty("--zero", share(0));
  slider.setAttribute("aria-valuetext", text);
  slider.parentElement.querySelector("output").textContent = text;
}

// A field that is being written in is left alone.
function setText(input, value) {
  if (input.value !== String(value) && !(document.activeElement === input && input.matches(":invalid"))) input.value = String(value);
}

function strip(of, first, last, strength) {
  of.style.setProperty("--strength", String(strength));
  [...of.children].forEach((bar, idx) => bar.classList.toggle("on", idx >= first && idx <= last));
}

function signed(value) {
  const text = Math.abs(value).toFixed(1);
  return value === 0 ? "0" : (value < 0 ? "−" : "+") + text;
}
