// The console in a browser, on real servers: node test.mjs URL PROCESS SCREENSHOTS
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, victim, shots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const UNSAFE = `<img src=x onerror="document.title='taken'">`;
const begun = Date.now();
const say = (text) => console.log(`${((Date.now() - begun) / 1000).toFixed(1)} s: ${text}`);

async function api(path, form) {
  const init = form && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(form) };
  const answer = await fetch(url + path, init);
  return { status: answer.status, body: await answer.json() };
}

// Real data of every kind: accounts, payments, what is held, posted, refused. An amount that no Number holds.
const HUGE = "123456789012345678901234567890123456";
const account = (id, flags = []) => ({ type: "account", id, ledger: 978, code: 1, flags });
const transfer = (id, debit_account, credit_account, amount, more = {}) => ({ type: "transfer", id, debit_account, credit_account, amount, ledger: 978, code: 1, ...more });
const events = [account("till"), account("anna", ["debits_must_not_exceed_credits"]), account("shop"), account("vault")];
for (let n = 0; n < 70; n++) events.push(transfer(`salary ${n}`, "till", "anna", `${1000 + n}`));
events.push(transfer("huge", "till", "vault", HUGE));
events.push(transfer("held", "anna", "shop", "500", { flags: ["pending"], timeout_seconds: 3600 }));
events.push(transfer("held and taken", "anna", "shop", "300", { flags: ["pending"] }));
events.push(transfer("taken", "anna", "shop", "200", { flags: ["post_pending"], pending_id: "held and taken" }));
events.push(transfer("too much", "anna", "shop", "99999999"));
const sent = await api("/api/v1/events", { events });
assert.equal(sent.status, 200);
const balance = async (id) => BigInt((await api(`/api/v1/accounts/${id}`)).body.credits_posted);
const anna = (await api("/api/v1/accounts/anna")).body.id;

const profile = mkdtempSync(join(tmpdir(), "walengine-console-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  viewport: { width: 1920, height: 1080 },
  reducedMotion: "reduce",
});
const strayed = [];
const complaints = [];
browser.on("request", (request) => new URL(request.url()).origin === url || strayed.push(request.url()));
async function open(hash, told = complaints) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => told.push(String(error)));
  page.on("console", (message) => /Content Security|TrustedHTML|Uncaught/.test(message.text()) && told.push(message.text()));
  await page.goto(`${url}/console#/${hash}`);
  return page;
}
const has = (page, text) => page.locator("main").getByText(text).first().waitFor({ timeout: 20_000 });

const PAGES = [
  ["overview", "", "Partition 0"],
  ["log", "log/0", "accepted"],
  ["reservations", "reservations/0", /in (59 min|1 h)/],
  ["refused", "refused/0", /refused: /],
  ["postgres", "postgres", "connected"],
  ["account", `account/${anna}`, "Older rows"],
  ["transfer", "transfer/too%20much", "It has moved nothing"],
  ["pay", "pay", "From account"],
  ["find", "find/nobody", "Nothing has this name"],
];

try {
  // Every page, at every width and in both schemes; who sees little can read it.
  const page = await open("");
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const width of [1920, 768, 360]) {
      await page.setViewportSize({ width, height: width === 360 ? 780 : 1000 });
      for (const [name, hash, text] of PAGES) {
        await page.evaluate((to) => void (location.hash = to), `#/${hash}`);
        await has(page, text);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(wide <= 0, `${name} is ${wide} px too wide at ${width}`);
        await page.screenshot({ path: join(shots, `${name}-${width}-${scheme}.png`) });
        if ((width === 768) === (scheme === "dark")) continue;
        if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
        const said = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
        assert.deepEqual(said, [], `${name} at ${width}, ${scheme}`);
      }
    }
  }
  say("pages");

  // Amounts past 2^53 are whole, and a statement's balances run.
  await page.setViewportSize({ width: 1400, height: 900 });
  await page.evaluate(() => void (location.hash = "#/find/vault"));
  await has(page, HUGE.replace(/\B(?=(\d{3})+$)/g, "\u202f"));
  await page.evaluate((id) => void (location.hash = `#/account/${id}`), anna);
  await page.getByRole("button", { name: "Older rows" }).click();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 71);
  const figures = await page.locator("tbody tr").evaluateAll((rows) => rows.map((row) => [3, 4, 5].map((cell) => row.cells[cell].textContent.replaceAll("\u202f", ""))));
  for (const [at, [out, into, after]] of figures.entries()) {
    const before = BigInt(figures[at + 1]?.[2] ?? "0");
    assert.equal(BigInt(after), before + BigInt(into || "0") - BigInt(out || "0"), `row ${at}`);
  }
  say("a statement");

  // The log, as it grows.
  const log = await open("log/0");
  await log.locator(".badge", { hasText: "live" }).waitFor();
  await api("/api/v1/transfers", transfer("seen at once", "till", "shop", "4242"));
  await has(log, "Pay 4\u202f242 from");
  await log.close();
  say("a stream");

  // What others have written is text, wherever it stands.
  const strange = await open(`find/${encodeURIComponent(UNSAFE)}`);
  await has(strange, UNSAFE);
  await strange.route("**/api/v1/ledgers", (route) => route.fulfill({ json: [{ ledger: 978, name: UNSAFE, scale: 2 }] }));
  await strange.route(`**/api/v1/accounts/${anna}`, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ json: { ...(await answer.json()), name: UNSAFE } });
  });
  await strange.reload();
  await strange.waitForFunction(() => performance.getEntriesByType("resource").some((one) => one.name.endsWith("/ledgers")));
  await strange.evaluate((id) => void (location.hash = `#/account/${id}`), anna);
  await strange.getByRole("heading", { name: UNSAFE }).waitFor();
  assert.equal(await strange.locator("img[src=x]").count(), 0);
  assert.equal(await strange.title(), "Account · walengine");
  await strange.close();
  say("unsafe texts");

  // By keyboard alone: to an account by its name, and a payment whose first answer is lost.
  const hands = await open("");
  await has(hands, "Partition 0");
  await hands.keyboard.press("Tab");
  assert.equal(await hands.evaluate(() => document.activeElement.textContent), "To the page");
  await hands.keyboard.press("/");
  await hands.keyboard.type("shop");
  await hands.keyboard.press("Enter");
  await hands.getByRole("link", { name: "Pay from here" }).waitFor();
  let tries = 0;
  await hands.route("**/api/v1/transfers", async (route) => {
    if (++tries > 1) return route.continue();
    await route.fetch(); // it is carried out, and nobody hears of it
    await route.abort();
  });
  const reach = async (name) => {
    for (let pressed = 0; pressed < 60; pressed++) {
      await hands.keyboard.press("Tab");
      const [is, outline] = await hands.evaluate(() => [(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim(), getComputedStyle(document.activeElement).outlineStyle]);
      if (is !== name) continue;
      assert.notEqual(outline, "none", `${name}: its focus is seen`);
      return;
    }
    assert.fail(`no way to ${name} by Tab`);
  };
  await reach("Pay from here");
  await hands.keyboard.press("Enter");
  await has(hands, "To account");
  const before = await balance("anna");
  await reach("To account");
  await hands.keyboard.type("anna");
  await hands.keyboard.press("Tab");
  await hands.keyboard.type("150");
  await hands.keyboard.press("Enter");
  await hands.locator("button.main", { hasText: /^Pay$/ }).waitFor();
  await hands.keyboard.press("Enter");
  await has(hands, "The answer was lost");
  await has(hands, "Paid");
  await has(hands, "nothing was moved twice");
  assert.equal(tries, 2);
  assert.equal(await balance("anna"), before + 150n, "it was paid once");
  await hands.close();
  say("a payment by keyboard");

  // Who may not see is told so.
  const stranger = await browser.newPage();
  const forbidden = { type: "urn:walengine:problem:forbidden", title: "The policy does not allow this", status: 403, detail: "stranger has no right here", code: "forbidden", may_have_changed: false };
  await stranger.route("**/api/v1/**", (route) => route.fulfill({ status: 403, contentType: "application/problem+json", body: JSON.stringify(forbidden) }));
  await stranger.goto(`${url}/console`);
  await has(stranger, "stranger has no right here");
  await stranger.close();

  // A node dies: seen within 3 s, by the mark in its row and in words above.
  await page.evaluate(() => void (location.hash = "#/"));
  await has(page, "Nothing is wrong");
  process.kill(Number(victim), "SIGKILL");
  const died = Date.now();
  await page.locator("tr.marked .badge", { hasText: /no answer|suspect|dead/ }).waitFor({ timeout: 3_000 });
  say(`a dying node, ${Date.now() - died} ms after its end`);
  await page.screenshot({ path: join(shots, "a-dying-node.png") });

  // And what is looked at: since when it is silent, and that it is there again.
  await page.route("**/*", (route) => route.abort());
  await page.getByText(/No answer from this node since \d\d:\d\d:\d\d/).waitFor();
  await page.screenshot({ path: join(shots, "no-server.png") });
  await page.unroute("**/*");
  await page.locator(".banner").waitFor({ state: "hidden" });
  say("a silent node");

  assert.deepEqual(strayed, [], "requests to others");
  assert.deepEqual(complaints, [], "errors in the page");
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
