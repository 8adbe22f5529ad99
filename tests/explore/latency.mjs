// latency.mjs PROGRAM WEIGHTS [MOVES]: time from a slider's move to its picture, decoded and painted.

import assert from "node:assert/strict";

import { launch, open, serve } from "./browser.mjs";

const [program, weights, moves = "40"] = process.argv.slice(2);
const browser = await launch();
const served = await serve(program, weights);

// Moves a slider and waits until the picture of the very last state is painted.
async function measure(name, id, hash) {
  const { page, context, complaints } = await open(browser, served.url, hash);
  await page.evaluate((id) => document.getElementById(id).closest("details")?.setAttribute("open", ""), id);
  const times = [];
  await page.waitForTimeout(1500); // the wall is done
  await page.focus(`#${id}`);
  for (let move = 0; move < Number(moves) + 2; move++) {
    await page.evaluate((id) => void (window.painted = new Promise((resolve) => {
      const picture = document.getElementById("picture");
      document.getElementById(id).addEventListener("input", (event) => {
        const before = picture.dataset.painted;
        const look = () => {
          if (picture.dataset.painted === before) return requestAnimationFrame(look);
          requestAnimationFrame(() => resolve(performance.now() - event.timeStamp)); // it is on the screen
        };
        look();
      }, { once: true, capture: true });
    })), id);
    await page.keyboard.press("ArrowLeft");
    times.push(await page.evaluate(() => window.painted));
  }
  assert.deepEqual(complaints, []);
  await context.close();
  const sorted = times.slice(2).sort((a, b) => a - b); // the first two wait for what is found once
  const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  console.log(`${name}: median ${at(0.5)} ms, p95 ${at(0.95)} ms, ${sorted.length} moves`);
}

await measure("psi", "controls-psi", "");
await measure("strength of a mixture", "controls-share", "#mix=5");
await measure("direction", "controls-by-0", "#by=2");
await served.close();
await browser.close();
