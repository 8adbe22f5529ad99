// screenshots.mjs PROGRAM WEIGHTS FOLDER: what the page looks like, wide and on a phone, light and dark.

import { join } from "node:path";

import { launch, open, serve, settled } from "./browser.mjs";

const [program, weights, folder] = process.argv.slice(2);
const browser = await launch();
const served = await serve(program, weights, ["--trunc", "0.8"]);
const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

async function shot(name, hash, options, prepare = async () => {}) {
  const { page, context } = await open(browser, served.url, hash, options);
  await prepare(page);
  await settled(page);
  // the places of small pictures that are in sight are filled
  await page.waitForFunction(() => [...document.querySelectorAll(".thumb")].every((place) => {
    const { top } = place.getBoundingClientRect();
    return top === 0 || top > innerHeight || place.dataset.made === place.dataset.text;
  }));
  await page.screenshot({ path: join(folder, `${name}.png`) });
  await context.close();
  console.log(`written: ${name}.png`);
}

const wide = { viewport: { width: 1360, height: 900 } };
const groups = async (page) => {
  await page.click("#mix-group > summary");
  await page.click("#directions-group > summary");
};
await shot("desktop-light", "#seed=12&psi=0.8", { ...wide, colorScheme: "light" });
await shot("desktop-dark", "#seed=6&psi=0.8&mix=9&mix_layers=4-9&mix_share=0.7&layers=0-8&by=0.6,-0.4", { ...wide, colorScheme: "dark" }, groups);
await shot("desktop-loop", "#seed=3&psi=0.8", { ...wide, colorScheme: "light" }, async (page) => {
  await page.click("#tab-loop");
  await page.click("#loop-play");
  await page.waitForFunction(() => document.getElementById("loop-progress").textContent === "64 frames");
});
await shot("desktop-shortcuts", "#seed=3&psi=0.8", { ...wide, colorScheme: "light" }, (page) => page.keyboard.press("?"));
await shot("phone-light", "#seed=12&psi=0.8", { ...phone, colorScheme: "light" });
await shot("phone-dark-scrolled", "#seed=12&psi=0.8&mix=5", { ...phone, colorScheme: "dark" }, async (page) => {
  await page.click("#mix-group > summary");
  await page.locator("#controls-share").scrollIntoViewIfNeeded();
  await page.mouse.wheel(0, 350);
  await page.waitForTimeout(300);
});
await shot("phone-empty", "#seed=12&psi=0.8", { ...phone, colorScheme: "light" }, async (page) => {
  await page.click("#tab-favourites");
  await page.locator("#favourites-empty").scrollIntoViewIfNeeded();
});
await served.close();
await browser.close();
