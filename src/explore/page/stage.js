// The large picture: always the newest state, with at most one request on its way.

import { Superseded } from "./server.js";

// A request that takes longer is given up for a newer one; quicker ones are shown on the way.
const WORTH_SHOWING_MS = 500;
// The picture is veiled when it takes longer, so that quick ones do not flicker.
const PATIENCE_MS = 250;

export class Stage {
  // `told(error)` is called for every picture that is shown (null) or cannot be.
  constructor(server, told) {
    this.server = server;
    this.told = told;
    this.next = null;
    this.running = null;
    this.typical = 0;
    this.frame = document.getElementById("frame");
    this.picture = document.getElementById("picture");
  }

  show(text, words) {
    this.next = { text, words };
    if (!this.running) this.#run();
    else if (this.typical > WORTH_SHOWING_MS) this.running.abort();
  }

  async #run() {
    while (this.next) {
      const { text, words } = this.next;
      this.next = null;
      this.running = new AbortController();
      const veil = setTimeout(() => (this.frame.dataset.state = "loading"), PATIENCE_MS);
      const begin = performance.now();
      try {
        const blob = await this.server.picture(text, "shown", this.running.signal);
        this.typical = performance.now() - begin;
        await this.#paint(blob, words);
        clearTimeout(veil);
        if (!this.next) this.frame.dataset.state = "shown";
        this.told(null);
      } catch (error) {
        clearTimeout(veil);
        if (error.name === "AbortError" || error instanceof Superseded) continue;
        this.frame.dataset.state = "error";
        this.told(error);
      }
    }
    this.running = null;
  }

  async #paint(blob, words) {
    const before = this.picture.src;
    const url = URL.createObjectURL(blob);
    const decoded = new Image();
    decoded.src = url;
    await decoded.decode();
    this.picture.src = url;
    this.picture.alt = words;
    this.picture.hidden = false;
    await this.picture.decode();
    this.picture.dataset.painted = String(performance.now());
    if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  }
}
