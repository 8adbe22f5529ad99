// The page: one state, and everything that shows or changes it.

import { Controls } from "./controls.js";
import { Favourites } from "./favourites.js";
import { listen } from "./keys.js";
import { Loop } from "./loop.js";
import { save } from "./save.js";
import { Server, facts as askFacts } from "./server.js";
import { Stage } from "./stage.js";
import { fileName, fromText, initial, inWords, randomSeed, toText } from "./state.js";
import { startTheme, turnTheme } from "./theme.js";
import { Thumbs, Wall } from "./wall.js";

const $ = (id) => document.getElementById(id);
// The address and the spoken status follow when the controls have rested for so long.
const REST_MS = 250;
// Pictures of at most so many pixels are shown with their pixels.
const FEW_PIXELS = 64;

startTheme();
try {
  start(await askFacts());
} catch (error) {
  trouble(error.message);
  $("status").textContent = "No model";
  $("frame").dataset.state = "error";
}

function start(facts) {
  describe(facts);
  const server = new Server(facts);
  const state = fromText(location.hash.slice(1), facts);
  const thumbs = new Thumbs(server);
  const say = (words) => ($("status").textContent = words);
  const stage = new Stage(server, (error) => trouble(error?.message, "picture"));
  let timer = null;

  const show = () => {
    const text = toText(state, facts);
    stage.show(text, inWords(state, facts));
    wall.follow(state);
    loop.show();
    clearTimeout(timer);
    timer = setTimeout(() => {
      history.replaceState(null, "", `#${text}&model=${facts.model}`);
      say(inWords(state, facts));
    }, REST_MS);
  };
  const changed = () => {
    trouble("");
    loop.stop();
    show();
  };
  const controls = new Controls(facts, state, server, changed);
  const wall = new Wall(facts, thumbs, (seed) => controls.change({ seed }));
  const favourites = new Favourites(facts, thumbs, (of) => controls.change(structuredClone(of)), say);
  const loop = new Loop(facts, server, () => state, () => favourites.states);

  const attempt = (act) => async () => {
    $("more").open = false;
    try {
      await act();
    } catch (error) {
      trouble(error.message);
    }
  };
  const keep = () => {
    favourites.keep(state);
    loop.show();
  };
  const download = attempt(async () => {
    save(await server.picture(toText(state, facts), "shown"), `${fileName(state)}.png`);
    say(`Saved: ${fileName(state)}.png`);
  });
  const downloadW = attempt(async () => {
    save(await server.latents(toText(state, facts)), `${fileName(state)}.w.safetensors`);
    say("Saved: for generate --w");
  });
  const link = attempt(async () => {
    history.replaceState(null, "", `#${toText(state, facts)}&model=${facts.model}`);
    await navigator.clipboard.writeText(location.href);
    say("Link copied: it shows this picture wherever these weights are open.");
  });
  const reset = () => controls.change(initial(facts));
  const on = (id, act) => $(id).addEventListener("click", act);
  on("keep", keep);
  on("download", download);
  on("download-w", downloadW);
  on("link", link);
  on("reset", () => {
    $("more").open = false;
    reset();
  });
  // the menu closes as menus do
  addEventListener("click", ({ target }) => $("more").contains(target) || ($("more").open = false));
  addEventListener("keydown", ({ key }) => key === "Escape" && ($("more").open = false));
  on("theme", turnTheme);
  tabs();
  listen([
    { keys: ["ArrowLeft", "ArrowRight"], shown: "← →", words: "previous, next seed", act: (key) => controls.stepSeed(key === "ArrowLeft" ? -1 : 1) },
    { keys: ["r"], shown: "R", words: "random seed", act: () => controls.change({ seed: randomSeed() }) },
    { keys: ["f"], shown: "F", words: "keep the picture", act: keep },
    { keys: ["d"], shown: "D", words: "save it as PNG", act: download },
    { keys: ["w"], shown: "W", words: "save its latents", act: downloadW },
    { keys: ["[", "]"], shown: "[ ]", words: "page through the wall", act: (key) => wall.page(key === "[" ? -1 : 1) },
    { keys: ["l"], shown: "L", words: "play or stop the loop", act: () => loop.toggle() },
    { keys: ["0"], shown: "0", words: "reset all settings", act: reset },
    { keys: ["t"], shown: "T", words: "light or dark", act: turnTheme },
  ]);
  addEventListener("hashchange", () => {
    controls.set(fromText(location.hash.slice(1), facts));
    changed();
    warnOfOther(facts);
  });
  show();
  warnOfOther(facts);
}

function describe(facts) {
  const name = facts.weights.split("/").pop();
  const parts = [`${facts.resolution} × ${facts.resolution}`];
  if (facts.channels === 1) parts.push("gray");
  if (facts.num_classes > 0) parts.push(`${facts.num_classes} classes`);
  parts.push(`${(facts.cur_nimg / 1000).toLocaleString("en", { maximumFractionDigits: 1 })} kimg`);
  $("title").textContent = name;
  document.title = `${name} · explore`;
  $("facts").textContent = parts.join(" · ");
  for (const id of ["frame", "wall-cells", "favourites-cells"]) $(id).classList.toggle("few-pixels", facts.resolution <= FEW_PIXELS);
}

// A link says which weights it was made with.
function warnOfOther(facts) {
  const model = new URLSearchParams(location.hash.slice(1)).get("model");
  if (model && model !== facts.model) {
    trouble("This link was made with other weights, so its picture was another one. Open those weights to see it.");
  }
}

// What is wrong; a picture that is shown again ends the trouble with pictures only.
function trouble(words, of = "page") {
  const box = $("trouble");
  if (!words && of === "picture" && box.dataset.of !== of) return;
  box.dataset.of = of;
  box.hidden = !words;
  box.textContent = words ?? "";
}

function tabs() {
  const all = [...document.querySelectorAll("[role=tab]")];
  const select = (tab) => {
    for (const other of all) {
      const isIt = other === tab;
      other.setAttribute("aria-selected", String(isIt));
      other.tabIndex = isIt ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = !isIt;
    }
  };
  all.forEach((tab, idx) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = all[(idx + step + all.length) % all.length];
      select(next);
      next.focus();
    });
  });
}
