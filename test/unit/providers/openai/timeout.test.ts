import { createRequire } from "node:module";
import { expect, it } from "vitest";
import { waitFor } from "../../../helpers/wait.js";
import { numbered, start } from "./start.js";

/** The clock of undici's own time limits, which end a request after 300 s unless they are off. */
const clock = createRequire(import.meta.url)("undici/lib/util/timers.js") as { tick: (ms: number) => void };

it.each([
  ["first", { latencyMs: 8_000 }],
  ["last", { slowBodyMs: 8_000 }],
])("the %s byte of an answer may take longer than 300 s", async (_, reply) => {
  const { provider, server } = await start({ script: () => reply }, { timeoutMs: 900_000 });
  let settled = false;
  const call = provider.embed(numbered(1)).finally(() => (settled = true));
  await waitFor(() => server.requests.length === 1, { what: "the request", intervalMs: 1 });
  clock.tick(400_000);
  clock.tick(400_000);
  expect(settled).toBe(false);
  await expect(call).resolves.toHaveLength(1);
  expect(server.requests).toHaveLength(1);
});
