// check.mjs PROGRAM WEIGHTS: the page by clicks and keys, in a headless browser. The weights have
// two classes with names.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { changed, launch, open, pixels, serve, settled } from "./browser.mjs";

const [program, weights] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "explore-"));
const browser = await launch();
const served = await serve(program, weights);

// Every check has a window of its own, in which nothing may go wrong unless it is expected.
async function check(name, body, { hash = "", expected = [], ...options } = {}) {
  const { page, context, complaints } = await open(browser, served.url, hash, options);
  await body(page, context);
  const wrong = complaints.filter((line) => !expected.some((text) => line.includes(text)));
  assert.deepEqual(wrong, [], name);
  await context.close();
  console.log(`ok: ${name}`);
}

async function downloaded(page, act) {
  const [download] = await Promise.all([page.waitForEvent("download"), act()]);
  const path = join(folder, download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

const hashOf = (page) => page.evaluate(() => location.hash);
const active = (page) => page.evaluate(() => document.activeElement.id);

await check("seeds by buttons, keys and hand", async (page) => {
  const first = await pixels(page);
  await changed(page, () => page.click("#seed-on"));
  assert.equal(await page.inputValue("#controls-seed"), "1");
  await page.evaluate(() => document.activeElement.blur());
  await changed(page, () => page.keyboard.press("ArrowRight"));
  assert.equal(await page.inputValue("#controls-seed"), "2");
  await changed(page, () => page.keyboard.press("r"));
  await changed(page, async () => {
    await page.click("#controls-seed", { clickCount: 3 });
    await page.keyboard.type("7");
  });
  assert.equal(await page.inputValue("#controls-seed"), "7");
  await page.keyboard.press("ArrowUp");
  assert.equal(await page.inputValue("#controls-seed"), "8");
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await page.keyboard.press("Tab");
  assert.equal(await page.inputValue("#controls-seed"), "8", "an empty field has its seed again");
  await changed(page, () => page.keyboard.press("0"));
  assert.equal(await pixels(page), first, "the same state, the same picture");
});

await check("every slider by the keyboard", async (page) => {
  await page.focus("#controls-psi");
  await changed(page, () => page.keyboard.press("ArrowLeft"));
  assert.equal(await page.textContent("output[for=controls-psi]"), "0.99");
  await page.focus("#mix-group > summary");
  await page.keyboard.press("Enter");
  assert(await page.isDisabled("#controls-share"), "no second seed, no strength");
  await page.focus("#controls-mix");
  await changed(page, () => page.keyboard.type("5"));
  for (const [id, key] of [["controls-share", "ArrowLeft"], ["controls-mix-first", "ArrowRight"], ["controls-mix-last", "ArrowLeft"]]) {
    await page.focus(`#${id}`);
    await changed(page, () => page.keyboard.press(key));
  }
  await page.focus("#directions-group > summary");
  await page.keyboard.press("Space");
  await page.focus("#controls-by-0");
  for (let step = 0; step < 20; step++) await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.querySelector("output[for=controls-by-0]").textContent === "+2.0");
  await settled(page);
  await page.focus("#controls-last");
  await changed(page, () => page.keyboard.press("ArrowLeft"));
  await page.waitForFunction(() => document.getElementById("strength-0").textContent !== "");
  await changed(page, () => page.click("#directions-reset"));
});

await check("class and grain", async (page) => {
  const names = await page.locator("#controls-class option").allTextContents();
  assert(names.length >= 2 && names.every((name, idx) => name.length > 4 && name.endsWith(` (${idx})`)), String(names));
  await changed(page, () => page.selectOption("#controls-class", "1"));
  await changed(page, () => page.click("label:has(input[value=none])"));
  await changed(page, () => page.click("label:has(input[value=random])"));
  await changed(page, () => page.click("#noise-seed-random"));
  await page.waitForFunction(() => /class=1&noise=random&noise_seed=\d+/.test(location.hash));
});

await check("a link shows the same picture", async (page, context) => {
  await changed(page, () => page.click("#seed-random"));
  await page.waitForFunction(() => location.hash.startsWith(`#seed=${document.getElementById("controls-seed").value}&`));
  const [hash, shown] = [await hashOf(page), await pixels(page)];
  const other = await open(browser, served.url, hash);
  assert.equal(await pixels(other.page), shown);
  await other.context.close();
  await page.goto(served.url + hash.replace(/model=\w+/, "model=00"));
  await settled(page);
  await page.waitForTimeout(200);
  assert.match(await page.textContent("#trouble"), /other weights/);
  await changed(page, () => page.click("#seed-on"));
  assert(!(await page.isVisible("#trouble")));
});

await check("an address that makes no sense has the defaults", async (page) => {
  const shown = await pixels(page);
  assert.equal(await page.inputValue("#controls-seed"), "0");
  assert.equal(await page.inputValue("#controls-psi"), "1");
  assert(!(await page.isVisible("#trouble")));
  const plain = await open(browser, served.url);
  assert.equal(await pixels(plain.page), shown);
  await plain.context.close();
}, { hash: "#seed=-5&psi=NaN&class=99&noise=loud&mix=x&mix_layers=9-1&mix_share=7&layers=0-99&by=1e9,abc&more=1" });

await check("the wall", async (page) => {
  await page.waitForSelector("#wall-cells .cell img[src^='blob:']");
  await page.click("#wall-on");
  const place = page.locator("#wall-cells .cell").nth(3);
  await place.scrollIntoViewIfNeeded();
  await changed(page, () => place.locator("button").click());
  assert.equal(await page.inputValue("#controls-seed"), "27");
  assert.equal(await place.getAttribute("aria-current"), "true");
  await page.waitForFunction(() => document.querySelectorAll("#wall-cells .cell img[src^='blob:']").length > 8);
  await page.keyboard.press("[");
  assert.equal(await page.inputValue("#wall-first"), "0");
  await page.fill("#wall-first", "1000");
  await page.keyboard.press("Tab");
  assert.equal(await page.textContent("#wall-cells .cell:first-child .name"), "1000");
});

await check("kept pictures survive, leave and come back", async (page) => {
  await page.click("#tab-favourites");
  assert(await page.isVisible("#favourites-empty"));
  await page.keyboard.press("f");
  await changed(page, () => page.click("#seed-on"));
  await page.click("#mix-group > summary");
  await changed(page, () => page.fill("#controls-mix", "9"));
  await page.click("#keep");
  const shown = await pixels(page);
  await page.click("#keep");
  assert.match(await page.textContent("#status"), /already/);
  await page.goto(served.url);
  await page.reload();
  await settled(page);
  await page.click("#tab-favourites");
  assert.equal(await page.textContent("#kept-count"), "2");
  await changed(page, () => page.locator("#favourites-cells .cell > button").nth(2).click());
  assert.equal(await pixels(page), shown, "a kept picture holds all settings");
  const file = await downloaded(page, () => page.click("#export"));
  assert.equal(JSON.parse(readFileSync(file)).favourites.length, 2);
  await page.locator("#favourites-cells .remove").first().click();
  assert.equal(await page.textContent("#kept-count"), "1");
  await page.click("#undo");
  assert.equal(await page.textContent("#kept-count"), "2");
  for (let left = 2; left > 0; left--) await page.locator("#favourites-cells .remove").first().click();
  await page.setInputFiles("#import-file", { name: "x.json", mimeType: "application/json", buffer: Buffer.from("no JSON") });
  await page.waitForFunction(() => document.getElementById("status").textContent.includes("Expected a file"));
  await page.setInputFiles("#import-file", file);
  await page.waitForFunction(() => document.getElementById("kept-count").textContent === "2");
});

await check("what is saved verifies, and its latents make it again", async (page) => {
  const png = await downloaded(page, () => page.keyboard.press("d"));
  assert.match(execFileSync(program, ["verify", png, "--weights", weights, "--device", "cpu"], { encoding: "utf8" }), /: exact/);
  await page.click("#more > summary");
  await page.keyboard.press("Escape");
  assert(!(await page.isVisible("#download-w")));
  await page.click("#more > summary");
  const w = await downloaded(page, () => page.click("#download-w"));
  execFileSync(program, ["generate", "--w", w, "--weights", weights, "--device", "cpu", "--no-provenance", "--out", folder], { stdio: "pipe" });
  assert.equal(await pixels(page, readFileSync(join(folder, "w0000.png"))), await pixels(page));
}, { hash: "#seed=4&psi=0.6&class=1&mix=3&mix_layers=1-2&mix_share=0.5&layers=0-3&by=1,-1" });

await check("a loop plays and stops", async (page) => {
  await page.click("#tab-loop");
  assert.match(await page.textContent("#loop-command"), /interpolate --weights \S+ --seeds 0-3 --frames 16 .*--out loop/);
  await page.focus("#loop-frames");
  await page.keyboard.press("Home");
  await page.click("#loop-play");
  await page.waitForFunction(() => document.getElementById("loop-progress").textContent === "8 frames");
  assert(await page.isVisible("#loop-canvas"));
  const seen = () => page.evaluate(() => document.getElementById("loop-canvas").dataset.frame);
  const first = await seen();
  await page.waitForFunction((first) => document.getElementById("loop-canvas").dataset.frame !== first, first);
  await page.click("#loop-play");
  assert(!(await page.isVisible("#loop-canvas")));
  assert.equal(await page.textContent("#loop-play"), "Play");
  await page.click("label:has(input[value=favourites])");
  assert.match(await page.textContent("#loop-note"), /Keep two pictures/);
  await page.keyboard.press("f");
  await changed(page, () => page.click("#seed-on"));
  await page.click("#keep");
  await page.keyboard.press("l");
  await page.waitForFunction(() => document.getElementById("loop-progress").textContent === "4 frames");
  await changed(page, () => page.click("#seed-on"));
  assert(!(await page.isVisible("#loop-canvas")), "a change ends the loop");
});

await check("all by the keyboard, with a list of shortcuts", async (page) => {
  const reached = new Set();
  for (let step = 0; step < 70; step++) {
    await page.keyboard.press("Tab");
    reached.add(await active(page));
    const isSeen = await page.evaluate(() => {
      const { activeElement: at } = document;
      const shown = at.closest("label") ?? at; // radio buttons are shown by their labels
      return at === document.body || getComputedStyle(at).outlineStyle !== "none" || getComputedStyle(shown).outlineStyle !== "none";
    });
    assert(isSeen, `focus is not seen on ${await active(page)}`);
  }
  for (const id of ["theme", "help", "keep", "download", "controls-seed", "controls-class", "controls-psi", "tab-wall", "wall-on"]) {
    assert(reached.has(id), `${id} is not reached`);
  }
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("?");
  assert(await page.isVisible("#shortcuts"));
  await page.click("#shortcuts-on");
  await page.keyboard.press("Escape");
  const before = await page.inputValue("#controls-seed");
  await page.keyboard.press("r");
  assert.equal(await page.inputValue("#controls-seed"), before, "shortcuts are off");
  const unnamed = await page.evaluate(() => [...document.querySelectorAll("input, select, button")]
    .filter((at) => !(at.labels?.length || at.getAttribute("aria-label") || at.textContent.trim() || at.type === "file"))
    .map((at) => at.id));
  assert.deepEqual(unnamed, [], "controls without a name");
});

await check("light and dark", async (page) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await ground();
  await page.click("#theme");
  const light = await ground();
  assert.notEqual(light, dark);
  await page.reload();
  await settled(page);
  assert.equal(await ground(), light, "a choice stays");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("t");
  assert.equal(await ground(), dark);
}, { colorScheme: "dark" });

await check("a phone: nothing beside the page, nothing jumps", async (page) => {
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  for (const group of ["#mix-group", "#directions-group"]) await page.click(`${group} > summary`);
  for (const tab of ["#tab-loop", "#tab-favourites", "#tab-wall"]) {
    await page.click(tab);
    assert.equal(await width(), 360, tab);
  }
  const shifts = await page.evaluate(() => new Promise((resolve) => {
    new PerformanceObserver((list) => resolve(list.getEntries().filter((entry) => !entry.hadRecentInput).reduce((sum, entry) => sum + entry.value, 0)))
      .observe({ type: "layout-shift", buffered: true });
    setTimeout(() => resolve(0), 500);
  }));
  assert(shifts < 0.02, `layout shift ${shifts}`);
}, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });

await check("a program that has ended is said in words", async (page) => {
  await served.close();
  await page.click("#seed-random");
  await page.waitForFunction(() => document.getElementById("trouble").textContent.includes("Start it again"));
}, { expected: ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "status of 503"] });

await browser.close();
rmSync(folder, { recursive: true });
