// The program with its page open, and a browser before it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";

import { chromium } from "playwright-core";

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

// Starts the program on weights; `close()` ends it as Ctrl-C does and tells whether it ended well.
export async function serve(program, weights, more = []) {
  const child = spawn(program, ["explore", "--weights", weights, "--port", "0", "--device", "cpu", ...more],
    { stdio: ["ignore", "pipe", "ignore"] });
  process.on("exit", () => child.kill()); // also where a check has failed
  const [line] = await once(child.stdout, "data");
  return {
    url: String(line).trim(),
    async close() {
      child.kill("SIGINT");
      const [code] = await once(child, "exit");
      assert.equal(code, 0);
    },
  };
}

// The browser of the system, without a window.
export function launch() {
  const executablePath = BROWSERS.find(existsSync);
  assert(executablePath, "expected Debian's chromium; .ci/explore installs it");
  // as root Chromium has no sandbox of its own; it sees this program's page only
  return chromium.launch({ executablePath, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
}

// A window that is open at a state; `complaints` is what should not have happened in it.
export async function open(browser, url, hash = "", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() !== "log" && complaints.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("blob:")) complaints.push(`request: ${request.url()}`);
  });
  await page.goto(url + hash);
  await settled(page);
  return { page, context, complaints };
}

// Waits until the picture of the present state is shown.
export async function settled(page) {
  await page.waitForFunction(() => document.querySelector("#picture[data-painted]") && document.querySelector("#frame[data-state=shown]"));
}

// SHA-256 of the shown picture's pixels, or of those of a PNG file.
export function pixels(page, png = null) {
  return page.evaluate(async (base64) => {
    const picture = document.getElementById("picture");
    const bytes = base64 && Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    const source = await createImageBitmap(bytes ? new Blob([bytes], { type: "image/png" }) : picture);
    const context = new OffscreenCanvas(source.width, source.height).getContext("2d");
    context.drawImage(source, 0, 0);
    const { data } = context.getImageData(0, 0, source.width, source.height);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    return `${source.width} x ${source.height}: ${[...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  }, png?.toString("base64"));
}

// Does something, and waits for a picture that is another than before; returns its pixels.
export async function changed(page, act) {
  const before = await page.evaluate(() => document.getElementById("picture").dataset.painted);
  const old = await pixels(page);
  await act();
  await page.waitForFunction((before) => document.getElementById("picture").dataset.painted !== before, before);
  // What is painted first may still be the answer to what was done before.
  let now = old;
  for (const deadline = Date.now() + 10_000; now === old && Date.now() < deadline; ) {
    await settled(page);
    now = await pixels(page);
  }
  assert.notEqual(now, old, "expected another picture");
  return now;
}
