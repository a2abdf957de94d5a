// The JavaScript half of browser.rs: serves a page from an origin of its own, opens it in Chromium, appends
// numbered messages while the page follows the stream, and prints one JSON line with what the page saw.
import { createServer } from "node:http"
import { chromium } from "playwright-core"

const { STREAM_URL, CHROMIUM, CONNECTIONS, PATIENCE_MS } = process.env
const patienceMs = Number(PATIENCE_MS)

/** Runs in the page: follows the stream with a plain EventSource and keeps count in `window.seen`. */
function follow(url) {
  const seen = { numbers: [], opened: 0, control: 0, resumedWithoutId: 0, closed: false }
  window.seen = seen
  const source = new EventSource(`${url}?offset=-1&live=sse`)
  window.source = source
  source.addEventListener("open", () => (seen.opened += 1))
  source.addEventListener("data", (event) => {
    if (event.lastEventId === "") seen.resumedWithoutId += 1
    const value = JSON.parse(event.data)
    for (const message of Array.isArray(value) ? value : [value]) seen.numbers.push(message.number)
  })
  source.addEventListener("control", (event) => {
    seen.control += 1
    if (JSON.parse(event.data).streamClosed) seen.closed = true
  })
}

/** Keeps the page from drowning in messages; nothing depends on its length. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 5))

const post = (headers, body) => fetch(STREAM_URL, { method: "POST", headers, body })

const pages = createServer((_, response) => {
  response.setHeader("Content-Type", "text/html")
  response.end("<!doctype html><title>follower</title>")
})
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve))

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
})
try {
  const page = await browser.newPage()
  page.setDefaultTimeout(patienceMs)
  await page.goto(`http://127.0.0.1:${pages.address().port}/`)
  await page.evaluate(follow, STREAM_URL)

  // The writer goes on until the server has ended the connection often enough, however long that takes.
  const deadline = Date.now() + patienceMs
  let written = 0
  while ((await page.evaluate(() => window.seen.opened)) < Number(CONNECTIONS)) {
    if (Date.now() > deadline) break
    const batch = Array.from({ length: 3 }, () => ({ number: written++ }))
    const answer = await post({ "Content-Type": "application/json" }, JSON.stringify(batch))
    if (!answer.ok) throw new Error(`append refused: ${answer.status} ${await answer.text()}`)
    await pause()
  }
  const answer = await post({ "Stream-Closed": "true" })
  if (!answer.ok) throw new Error(`close refused: ${answer.status}`)
  const ended = await page
    .waitForFunction(() => window.source.readyState === EventSource.CLOSED)
    .then(() => true, () => false)
  const seen = await page.evaluate(() => ({ ...window.seen, readyState: window.source.readyState }))
  console.log(JSON.stringify({ written, ended, seen }))
} finally {
  await browser.close()
  pages.close()
}
