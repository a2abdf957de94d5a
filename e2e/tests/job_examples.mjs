// The JavaScript half of job_examples.rs: opens docs/examples/run.html in Chromium while a run goes on, and prints one JSON line
// with what the page shows at its end.
import { chromium } from "playwright-core"

const { PAGE_URL, CHROMIUM, PATIENCE_MS } = process.env

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
})
try {
  const page = await browser.newPage()
  page.setDefaultTimeout(Number(PATIENCE_MS))
  await page.goto(PAGE_URL)
  await page.waitForFunction(() => document.getElementById("state").textContent === "succeeded")
  const shown = await page.evaluate(() => document.getElementById("log").textContent)
  console.log(JSON.stringify({ shown }))
} finally {
  await browser.close()
}
