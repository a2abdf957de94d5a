// The JavaScript half of clients.rs: the official client with a token in a header, in all its ways to write and read.
// Prints one JSON line.
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"

const { STREAM_URL, TOKEN, READ_ONLY } = process.env
const total = 500
const url = STREAM_URL
const headers = { authorization: `Bearer ${TOKEN}` }
const reading = { authorization: `Bearer ${READ_ONLY}` }

const seen = { "catch-up": [], "long-poll": [], sse: [] }

/** Reads the whole stream in one mode, up to its close. */
async function readToClose(mode) {
  const live = mode === "catch-up" ? false : mode
  const response = await stream({ url, offset: "-1", live, headers: reading })
  for await (const item of response.jsonStream()) seen[mode].push(item.number)
}

/** Waits for a reader. Of data that comes in one piece with the close behind it, version 0.2.7 may drop some. */
async function caughtUp(mode) {
  while (seen[mode].length < total) await new Promise((resolve) => setTimeout(resolve, 10))
}

/** The status of what is refused. */
async function refusal(attempt) {
  try {
    await attempt()
    return "it was not refused"
  } catch (error) {
    return error.status ?? String(error)
  }
}

const handle = await DurableStream.create({ url, headers, contentType: "application/json" })
const longPoll = readToClose("long-poll")
const sse = readToClose("sse")
const failures = []
const producer = new IdempotentProducer(handle, "official-client", {
  maxBatchBytes: 256,
  lingerMs: 0,
  onError: (error) => failures.push(String(error)),
})
for (let number = 0; number < total; number += 1) producer.append(JSON.stringify({ number }))
await producer.flush()
const refused = await refusal(() => new DurableStream({ url, headers: reading, contentType: "application/json" }).append("{}"))
const anonymous = await refusal(async () => (await stream({ url, offset: "-1", live: false })).json())
await Promise.all([caughtUp("long-poll"), caughtUp("sse")])
await handle.close()
await Promise.all([longPoll, sse, readToClose("catch-up")])
console.log(JSON.stringify({ modes: seen, failures, refused, anonymous }))
