// Follows a run from its beginning to its end with the official client (npm i @durable-streams/client), and prints its events.
//
//   RUN_URL=http://127.0.0.1:4437/v1/stream/runs/jobs/mail/welcome-ada node follow.mjs
import { stream } from "@durable-streams/client"

const response = await stream({ url: process.env.RUN_URL, offset: "-1", live: "long-poll", warnOnHttp: false })
for await (const event of response.jsonStream()) console.log(JSON.stringify(event))
