import { connect } from "node:net";
import fc from "fast-check";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openEmbedded } from "#embedd/embedded/index.js";
import type { EmbeddedServer } from "#embedd/embedded/index.js";
import { STARTUP, clientMessage, passwordMessage, sizedMessage } from "../helpers/client-messages.js";

/** Bounds the whole test, on a slow machine as on a fast one. */
const FUZZ_MS = 10_000;

let server: EmbeddedServer;
beforeAll(async () => {
  server = await openEmbedded();
});
afterAll(() => server.stop());

const bodies = fc.oneof(
  fc.uint8Array({ maxLength: 60 }),
  fc
    .constantFrom("\0\0\0\0\0\0\0\0", "\0select 1\0\0\0", "select 1\0", "begin\0", "S\0", "P\0", "x\0\0\0")
    .map((text) => Buffer.from(text, "latin1")),
);
const lengths = fc.oneof(
  fc.constantFrom(-(2 ** 31), -1, 0, 1, 3, 4, 5, 8, 10_000, 10_001, 2 ** 28, 2 ** 31 - 1),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
);
const types = fc.constantFrom(...Array.from("QPBDECHSXdcfFpR\0\xff"));
const anyMessage = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(types, bodies).map(([type, body]) => sizedMessage(type, body)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(types, lengths, bodies)
      .map(([type, length, body]) => clientMessage(type, length, body)),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(lengths, bodies).map(([length, body]) => clientMessage("", length, body)),
  },
);
/** How far it follows the protocol before it stops to. */
const depth = fc.constantFrom("none", "startup", "password");
const cuts = fc.array(fc.nat(200), { maxLength: 4 });

/** Sends the bytes in pieces, and hangs up once the server has closed, or has read all. */
async function attack(stream: Buffer, edges: readonly number[], abrupt: boolean): Promise<void> {
  const socket = connect(Number(new URL(server.connectionString).port), "127.0.0.1").setNoDelay(true);
  socket.on("error", () => undefined).resume();
  const closed = new Promise((resolve) => socket.once("close", resolve));
  let from = 0;
  for (const edge of [...edges, stream.length].sort((a, b) => a - b)) {
    await new Promise((resolve) => socket.write(stream.subarray(from, edge), resolve));
    from = Math.max(from, Math.min(edge, stream.length));
  }
  if (abrupt) socket.resetAndDestroy();
  else socket.end();
  await closed;
}

async function expectAnswer(): Promise<void> {
  const client = new pg.Client(server.connectionString);
  client.on("error", () => undefined);
  await client.connect();
  const { rows } = await client.query("select $1::int as n", [7]);
  await client.end();
  expect(rows).toEqual([{ n: 7 }]);
}

it("embedded PostgreSQL answers correct clients after any other traffic on its port", async () => {
  const password = passwordMessage(server.connectionString);
  await fc.assert(
    fc.asyncProperty(
      depth,
      fc.array(anyMessage, { minLength: 1, maxLength: 6 }),
      cuts,
      fc.boolean(),
      async (until, messages, edges, abrupt) => {
        const opening = { none: [], startup: [STARTUP], password: [STARTUP, password] }[until];
        await attack(Buffer.concat([...opening, ...messages]), edges, abrupt);
        await expectAnswer();
      },
    ),
    { numRuns: 1_000, interruptAfterTimeLimit: FUZZ_MS, endOnFailure: true },
  );
  // The time limit also ends a run that waits for an answer.
  await expectAnswer();
});
