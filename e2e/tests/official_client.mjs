// The JavaScript half of official_client.rs: writes through a proxy that cuts connections, reads back
// directly, and prints one JSON line with what each way of reading saw.
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"

const { STREAM_URL, PROXIED_URL, MESSAGES, CONTENT_TYPE } = process.env
const total = Number(MESSAGES)
const isJson = CONTENT_TYPE === "application/json"

let networkFailures = 0

/** The client leaves network failures to its caller: the same request again is what a producer may do. */
async function persistentFetch(...request) {
  for (;;) {
    try {
      return await fetch(...request)
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      networkFailures += 1
    }
  }
}

/**
 * Gives the client one round of events at a time: data, and the control event behind it. Of two rounds that the
 * network brings in one piece, version 0.2.7 drops the data of the second if that closes the stream.
 */
async function fetchRoundByRound(...request) {
  const response = await fetch(...request)
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return response
  const rounds = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(splitIntoRounds())
  const { status, statusText, headers } = response
  return new Response(rounds.pipeThrough(new TextEncoderStream()), { status, statusText, headers })
}

function splitIntoRounds() {
  let rest = ""
  return new TransformStream({
    async transform(piece, out) {
      const rounds = (rest + piece).split(/(?<=event: control\n(?:.+\n)+\n)/)
      rest = rounds.pop()
      for (const round of rounds) {
        out.enqueue(round)
        // The client has dealt with it once everything that is due has run.
        await new Promise(setImmediate)
      }
    },
    flush: (out) => out.enqueue(rest),
  })
}

/** Reads the whole stream in one mode, up to its close. */
async function readToClose(live) {
  const response = await stream({ url: STREAM_URL, offset: "-1", live, fetch: fetchRoundByRound, warnOnHttp: false })
  const seen = []
  if (isJson) {
    for await (const item of response.jsonStream()) seen.push(item.number)
  } else {
    let text = ""
    for await (const chunk of response.textStream()) text += chunk
    seen.push(...text.trimEnd().split("\n").map(Number))
  }
  return { seen, closed: response.streamClosed }
}

const handle = await DurableStream.create({ url: STREAM_URL, contentType: CONTENT_TYPE, warnOnHttp: false })
const longPoll = readToClose("long-poll")
const sse = readToClose("sse")

const failures = []
const proxied = new DurableStream({ url: PROXIED_URL, contentType: CONTENT_TYPE, warnOnHttp: false })
const producer = new IdempotentProducer(proxied, "official-client", {
  fetch: persistentFetch,
  maxBatchBytes: 256,
  lingerMs: 0,
  onError: (error) => failures.push(String(error)),
})
const encode = (number) => (isJson ? JSON.stringify({ number }) : `${number}\n`)
for (let number = 0; number < total - 1; number += 1) producer.append(encode(number))
await producer.flush()
await producer.close(encode(total - 1))

const modes = { "long-poll": await longPoll, sse: await sse, "catch-up": await readToClose(false) }
const head = await handle.head()
console.log(JSON.stringify({ modes, failures, networkFailures, closed: head.streamClosed, batches: producer.nextSeq }))
