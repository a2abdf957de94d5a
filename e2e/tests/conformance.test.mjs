// The protocol's official server tests, run against the server that tests/conformance.rs has started.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({
  baseUrl: process.env.SERVER_URL,
  longPollTimeoutMs: Number(process.env.LONG_POLL_TIMEOUT_MS),
  subscriptions: true,
})
