// A state: everything that decides the shown picture. As text it is the query of the server's API
// and what stands behind the # of the address; absent parts have their defaults.

// The state that the page starts with.
export function initial(facts) {
  const last = facts.layers.length - 1;
  return {
    seed: 0,
    psi: facts.start.psi,
    class: facts.start.class,
    noise: facts.start.noise,
    noise_seed: null,
    mix: null,
    mix_first: Math.floor(facts.layers.length / 2),
    mix_last: last,
    mix_share: 1,
    first: 0,
    last: last - 1, // the last takes part in no convolution
    by: Array(facts.num_directions).fill(0),
  };
}

// A state as text, in a fixed order, so that equal pictures have equal texts.
export function toText(state, facts) {
  const parts = [`seed=${state.seed}`, `psi=${state.psi}`];
  if (facts.num_classes > 0) parts.push(`class=${state.class}`);
  if (state.noise !== "const") parts.push(`noise=${state.noise}`);
  if (state.noise === "random" && state.noise_seed !== null) parts.push(`noise_seed=${state.noise_seed}`);
  if (state.mix !== null) {
    parts.push(`mix=${state.mix}`, `mix_layers=${state.mix_first}-${state.mix_last}`);
    if (state.mix_share !== 1) parts.push(`mix_share=${state.mix_share}`);
  }
  if (state.by.some((by) => by !== 0)) {
    const length = state.by.findLastIndex((by) => by !== 0) + 1;
    parts.push(`layers=${state.first}-${state.last}`, `by=${state.by.slice(0, length).join(",")}`);
  }
  return parts.join("&");
}

// A text as a state. What is absent, of another kind or out of bounds has its default.
export function fromText(text, facts) {
  const state = initial(facts);
  const query = new URLSearchParams(text);
  const seed = (name) => whole(query.get(name), 0, 2 ** 32 - 1);
  const bounded = (value, [least, most]) => (Number.isFinite(value) && value >= least && value <= most ? value : null);
  const number = (name) => (query.get(name) ? bounded(Number(query.get(name)), facts.bounds[name]) : null);
  const last = facts.layers.length - 1;
  state.seed = seed("seed") ?? state.seed;
  state.psi = number("psi") ?? state.psi;
  state.class = whole(query.get("class"), 0, facts.num_classes - 1) ?? state.class;
  if (["const", "random", "none"].includes(query.get("noise"))) state.noise = query.get("noise");
  else if (query.has("seed")) state.noise = "const";
  state.noise_seed = seed("noise_seed");
  state.mix = seed("mix");
  state.mix_share = number("mix_share") ?? state.mix_share;
  [state.mix_first, state.mix_last] = range(query.get("mix_layers"), last) ?? [state.mix_first, state.mix_last];
  [state.first, state.last] = range(query.get("layers"), last) ?? [state.first, state.last];
  const by = (query.get("by") ?? "").split(",").map((part) => bounded(Number(part), facts.bounds.by) ?? 0);
  state.by = state.by.map((_, idx) => by[idx] ?? 0);
  return state;
}

function whole(text, least, most) {
  return /^\d{1,10}$/.test(text ?? "") && Number(text) >= least && Number(text) <= most ? Number(text) : null;
}

function range(text, last) {
  const match = /^(\d{1,3})-(\d{1,3})$/.exec(text ?? "");
  return match && Number(match[1]) <= Number(match[2]) && Number(match[2]) <= last
    ? [Number(match[1]), Number(match[2])]
    : null;
}

// Whether a state is a seed with a psi, a class and noise, and nothing more.
export function isPlain(state) {
  return (state.mix === null || state.mix_share === 0) && state.by.every((by) => by === 0);
}

// A state in words, for captions and for those who do not see the picture.
export function inWords(state, facts) {
  const parts = [`Seed ${state.seed}`, `psi ${state.psi}`];
  if (facts.num_classes > 0) parts.push(className(state.class, facts));
  if (state.noise !== "const") parts.push(state.noise === "none" ? "no grain" : "random grain");
  if (state.mix !== null && state.mix_share > 0) parts.push(`with seed ${state.mix}`);
  const moved = state.by.filter((by) => by !== 0).length;
  if (moved > 0) parts.push(moved === 1 ? "1 direction" : `${moved} directions`);
  return parts.join(" · ");
}

export function className(idx, facts) {
  return facts.class_names[idx] ?? `class ${idx}`;
}

// The begin of a file's name for a state.
export function fileName(state) {
  const seed = `seed${String(state.seed).padStart(4, "0")}`;
  const mix = state.mix !== null && state.mix_share > 0 ? `-mix${state.mix}` : "";
  const moved = state.by.map((by, idx) => (by === 0 ? "" : `-d${idx}by${by}`)).join("");
  return seed + mix + moved;
}

export function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
}
