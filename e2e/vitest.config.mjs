import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["tests/*.test.mjs"],
    // One file of a few hundred short tests: a pool of workers would only cost its start.
    fileParallelism: false,
  },
})
