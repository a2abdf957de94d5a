// A worker in JavaScript: claims jobs, does each one, and tells its run. Node.js 20 and `fetch`, nothing else.
//
//   STREAMS_URL=http://127.0.0.1:4437/v1/stream QUEUE=jobs/mail node worker.mjs
const { STREAMS_URL, QUEUE, UNTIL_EMPTY } = process.env
const worker = `${process.env.HOSTNAME ?? "js"}:${process.pid}`

/** A name as it stands in a URL. */
const escaped = (name) => name.split("/").map(encodeURIComponent).join("/")

/** A refusal is an answer. Lost connections, and refusals because of load, are tried again: that does no harm to any of these calls. */
async function post(path, body, headers = {}) {
  for (let pause = 100; ; pause = Math.min(2 * pause, 5000)) {
    let trouble
    try {
      const answer = await fetch(`${STREAMS_URL}/${path}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...headers },
        body: JSON.stringify(body),
      })
      const text = await answer.text()
      if (![429, 503].includes(answer.status)) return { ok: answer.ok, text }
      trouble = text
      pause = Math.max(pause, 1000 * Number(answer.headers.get("Retry-After") ?? 1))
    } catch (error) {
      trouble = error.cause ?? error
    }
    console.error(`${trouble}; trying again in ${pause} ms`)
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
}

/** What this worker has of a run, until somebody else has it. */
class Lease {
  constructor({ run, epoch, next_seq, lease_ms }) {
    Object.assign(this, { run: escaped(run), epoch, seq: next_seq })
    this.stop = new AbortController()
    this.timer = setInterval(() => this.heartbeat(), lease_ms / 3)
  }

  async heartbeat() {
    const { ok, text } = await post(`__ds/runs/${this.run}/heartbeat`, { epoch: this.epoch })
    if (!ok || JSON.parse(text).cancel) this.stop.abort()
  }

  /** Appends events. Sent again under the same number, they are known. */
  async tell(...events) {
    const producer = { "Producer-Id": "lease", "Producer-Epoch": `${this.epoch}`, "Producer-Seq": `${this.seq}` }
    const { ok, text } = await post(this.run, events, producer)
    if (!ok) throw new Error(`fenced: ${text}`)
    this.seq += 1
  }

  async end(operation, more) {
    clearInterval(this.timer)
    await post(`__ds/runs/${this.run}/${operation}`, { epoch: this.epoch, seq: this.seq, ...more })
  }
}

/** What the job is: put yours here. `signal` says that it is to stop. */
async function work(payload, lease, signal) {
  await lease.tell({ type: "progress", of: payload, percent: 50 })
  signal.throwIfAborted()
  return { done: payload }
}

for (;;) {
  const wait_ms = UNTIL_EMPTY ? 0 : 20_000
  const { ok, text } = await post(`__ds/queues/${escaped(QUEUE)}/claim`, { worker, max: 1, wait_ms })
  if (!ok) throw new Error(text)
  const { jobs } = JSON.parse(text)
  if (jobs.length === 0 && UNTIL_EMPTY) break
  for (const job of jobs) {
    const lease = new Lease(job)
    try {
      const result = await work(job.payload, lease, lease.stop.signal)
      await lease.end("complete", { result })
    } catch (error) {
      await lease.end("fail", { error: String(error) })
    }
  }
}
