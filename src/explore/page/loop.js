// A closed loop, played in the page: through seeds or through kept pictures. Frames are made in
// their order and played as far as they are there.

import { slide } from "./controls.js";
import { isPlain, toText } from "./state.js";

const $ = (id) => document.getElementById(id);
const MAX_FRAMES = 1200;

export class Loop {
  // `current()` is the state of the controls, `favourites()` those that are kept.
  constructor(facts, server, current, favourites) {
    Object.assign(this, { facts, server, current, favourites, playing: null });
    this.canvas = $("loop-canvas");
    this.canvas.width = this.canvas.height = facts.resolution;
    $("loop-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.toggle();
    });
    $("loop-form").addEventListener("input", () => this.show());
    $("loop-copy").addEventListener("click", () => navigator.clipboard.writeText($("loop-command").textContent)
      .then(() => this.#say("Copied."), () => this.#say("The browser does not allow copying; select the text.")));
    this.show();
  }

  toggle() {
    if (this.playing) this.stop();
    else this.play();
  }

  // The form, and the command that renders the loop in full.
  show() {
    for (const id of ["loop-frames", "loop-fps"]) slide($(id), Number($(id).value), $(id).value);
    $("loop-seeds").hidden = this.#isOfFavourites();
    const { states, problem } = this.#states();
    const { command, note } = this.#command(states);
    $("loop-command").replaceChildren(...command.map(whole).flatMap((part, idx) => (idx === 0 ? [part] : [" ", part])));
    $("loop-note").textContent = problem ?? note;
    $("loop-play").disabled = problem !== undefined && !this.playing;
    $("loop-command").parentElement.hidden = $("loop-copy").hidden = command.length === 0;
  }

  stop() {
    this.playing?.abort();
    this.playing = null;
    this.canvas.hidden = true;
    $("frame-note").hidden = true;
    $("loop-play").textContent = "Play";
    this.#say("");
    this.show();
  }

  async play() {
    const { states, problem } = this.#states();
    if (problem) return this.#say(problem);
    const playing = new AbortController();
    this.playing = playing;
    $("loop-play").textContent = "Stop";
    $("frame-note").hidden = false;
    const texts = states.map((state) => toText(state, this.facts));
    const perLeg = Number($("loop-frames").value);
    const count = texts.length * perLeg;
    const frames = [];
    this.#turn(frames, count, playing.signal);
    try {
      for (let idx = 0; idx < count; idx++) {
        const leg = Math.floor(idx / perLeg);
        const [from, to] = [texts[leg], texts[(leg + 1) % texts.length]];
        const blob = await this.server.frame(from, to, (idx % perLeg) / perLeg, playing.signal);
        frames.push(blob);
        this.#say(idx + 1 < count ? `Making frame ${idx + 1} of ${count}` : `${count} frames`);
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      this.stop();
      this.#say(error.message);
    }
  }

  // Draws what is there, at its pace, until the signal.
  async #turn(frames, count, signal) {
    const context = this.canvas.getContext("2d");
    let [at, last] = [0, 0];
    const draw = async (now) => {
      if (signal.aborted) return;
      if (now - last >= 1000 / Number($("loop-fps").value) - 2 && frames.length > 0) {
        last = now;
        const bitmap = await createImageBitmap(frames[at % frames.length]);
        if (signal.aborted) return bitmap.close();
        context.drawImage(bitmap, 0, 0);
        bitmap.close();
        this.canvas.hidden = false;
        this.canvas.dataset.frame = String(at % frames.length);
        $("frame-note").textContent = `Loop · ${(at % frames.length) + 1} / ${count}`;
        at = (at + 1) % (frames.length === count ? count : Math.max(frames.length, 1));
      }
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  #isOfFavourites() {
    return $("loop-form").elements.through.value === "favourites";
  }

  // The states that the loop visits, or why there is none.
  #states() {
    let states;
    if (this.#isOfFavourites()) {
      states = this.favourites();
      if (states.length < 2) return { states: [], problem: "Keep two pictures at least: press F below one that you like." };
    } else {
      const [first, last] = [Number($("loop-first").value), Number($("loop-last").value)];
      const fits = $("loop-first").checkValidity() && $("loop-last").checkValidity();
      if (!fits || last <= first) return { states: [], problem: "Expected a first seed and a later one, such as 0 to 3." };
      if (last - first >= MAX_FRAMES) return { states: [], problem: `At most ${MAX_FRAMES} frames play here; choose fewer seeds.` };
      states = Array.from({ length: last - first + 1 }, (_, idx) => ({ ...this.current(), seed: first + idx }));
    }
    if (states.length * Number($("loop-frames").value) > MAX_FRAMES) {
      return { states: [], problem: `At most ${MAX_FRAMES} frames play here; choose fewer frames or pictures.` };
    }
    return { states };
  }

  // The command that renders the loop, and what it leaves out.
  #command(states) {
    if (states.length < 2) return { command: [], note: "" };
    const [of] = states;
    const rest = (state) => JSON.stringify([state.psi, state.class, state.noise]);
    const isWhole = states.every((state) => isPlain(state) && rest(state) === rest(of) && state.noise_seed === null);
    const seeds = states.map(({ seed }) => seed);
    const isRange = seeds.length > 2 && seeds.every((seed, idx) => seed === seeds[0] + idx);
    const parts = ["stylegan2-c2d", "interpolate", `--weights ${quoted(this.facts.weights)}`,
      `--seeds ${isRange ? `${seeds[0]}-${seeds.at(-1)}` : seeds.join(",")}`,
      `--frames ${$("loop-frames").value}`, `--fps ${$("loop-fps").value}`];
    if (of.psi !== 1) parts.push(`--trunc ${of.psi}`);
    if (this.facts.num_classes > 0) parts.push(`--class ${of.class}`);
    if (of.noise !== "const") parts.push(`--noise-mode ${of.noise}`);
    parts.push("--out loop");
    const note = isWhole
      ? "In full, as APNG, GIF and film:"
      : "interpolate knows seeds of one psi and one class: mixtures and directions play here alone. Of the same seeds it makes:";
    return { command: parts, note };
  }

  #say(words) {
    $("loop-progress").textContent = words;
  }
}

// A part of a command that stays in one line, where it fits into one.
function whole(text) {
  return Object.assign(document.createElement("span"), { textContent: text });
}

function quoted(path) {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
