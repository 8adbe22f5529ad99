// What the program is asked for. Errors are thrown in words, with what helps.

// This window; of its shown pictures only the newest waits at the server.
const PAGE = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);

// So many bytes of pictures are remembered: who picks one of the wall need not wait for it again.
const MAX_BYTES = 64 * 2 ** 20;

export class Server {
  #pictures = new Map(); // the latest at the end
  #bytes = 0;

  constructor(facts) {
    this.facts = facts;
  }

  // The bytes of a picture. `rank`: shown, frame or wall.
  async picture(text, rank, signal) {
    const found = this.#pictures.get(text) ?? (await this.#blob(`/api/picture?${text}`, rank, signal));
    if (this.#pictures.delete(text)) this.#bytes -= found.size;
    this.#pictures.set(text, found);
    this.#bytes += found.size;
    for (const [oldest, { size }] of this.#pictures) {
      if (this.#bytes <= MAX_BYTES) break;
      this.#pictures.delete(oldest);
      this.#bytes -= size;
    }
    return found;
  }

  // What lies between two states.
  frame(from, to, at, signal) {
    const query = `from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}&at=${at}`;
    return this.#blob(`/api/frame?${query}`, "frame", signal);
  }

  latents(text) {
    return this.#blob(`/api/latents?${text}`, "frame"); // in no picture's way
  }

  // How strongly each direction of some layers changes pictures.
  async directions(first, last, signal) {
    const answer = await ask(`/api/directions?layers=${first}-${last}&model=${this.facts.model}&rank=frame`, signal);
    return (await answer.json()).strengths;
  }

  async #blob(path, rank, signal) {
    const answer = await ask(`${path}&model=${this.facts.model}&rank=${rank}&page=${PAGE}`, signal);
    return answer.blob();
  }
}

export async function facts() {
  return (await ask("/api/facts")).json();
}

// Thrown where the server has dropped a request for a newer one: no error, there is nothing to say.
export class Superseded extends Error {}

async function ask(path, signal) {
  let answer;
  try {
    answer = await fetch(path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The program does not answer. Start it again in its terminal, at the same port; this page then goes on.");
  }
  if (answer.ok) return answer;
  const words = await answer.json().then((json) => json.error, () => `status ${answer.status}`);
  if (answer.status === 409) throw new Superseded(words);
  throw new Error(words.charAt(0).toUpperCase() + words.slice(1));
}
