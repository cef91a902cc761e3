// Uses the gateway's page in Chromium as somebody with a small screen and a keyboard does, and prints what it sees as JSON.
import { chromium } from "playwright-core";

const [url, program, apiKey, prompt, suffix, stalling, pictures] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 390, height: 844 } });
page.setDefaultTimeout(30_000);
const problems = [], addresses = new Set();
page.on("pageerror", (error) => problems.push(String(error)));
page.on("request", (request) => addresses.add(new URL(request.url()).origin));

const status = page.getByRole("status");
const has = (text) => status.filter({ hasText: text }).waitFor();
const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** Goes to a field by the Tab key alone and writes into it. */
async function write(label, text) {
  for (let steps = 0; steps < 20; steps++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((name) => document.activeElement.labels?.[0]?.textContent.startsWith(name), label)) {
      await page.keyboard.press("Control+A");
      return text ? page.keyboard.insertText(text) : page.keyboard.press("Delete");
    }
  }
  throw new Error(`no Tab leads to ${label}`);
}

async function ask() {
  const field = await page.evaluate(() => document.activeElement.id);
  await page.keyboard.press("Control+Enter");
  await has("Answered by");
  const tiers = await page.locator(".tier").allInnerTexts();
  const bars = await page.getByRole("img").evaluateAll((all) => all.map((bar) => bar.getAttribute("aria-label")));
  const answer = await page.getByLabel("The code with the answer in it").textContent();
  if (field !== (await page.evaluate(() => document.activeElement.id))) problems.push("the focus is lost");
  return { status: await status.textContent(), tiers, bars, answer, cost: await page.locator("#cost").innerText(), wide: await wide() };
}

await page.goto(url);
await has("Failed");
const refused = await status.textContent();
await write("API key", apiKey);
await page.keyboard.press("Tab");
await page.getByRole("option", { name: "large-alone" }).waitFor({ state: "attached" });
await write("Code before", prompt);
const whole = await ask();
if (pictures) await page.screenshot({ path: `${pictures}/whole.png`, fullPage: true });
await write("Code after", suffix);
const infill = await ask();
if (pictures) await page.screenshot({ path: `${pictures}/infill.png`, fullPage: true });
await write("Code after", "");
await write("Tests", "assert add(1, 2) == 3\nassert add(2, 2) == 4\n");
const tested = await ask();
if (pictures) await page.screenshot({ path: `${pictures}/tested.png`, fullPage: true });
await write("Code before", stalling);
await page.getByRole("button", { name: "Complete" }).focus();
await page.keyboard.press("Enter");
await has("is asked");
await page.keyboard.press("Escape");
await has("Stopped");
if ((await page.evaluate(() => document.activeElement.id)) !== "go") problems.push("the focus is lost");
console.log(JSON.stringify({ refused, whole, infill, tested, problems, addresses: [...addresses] }));
await browser.close();
