import fc from "fast-check";
import { expect, it } from "vitest";
import { createFrontend } from "#embedd/embedded/frontend.js";
import {
  createMessageSplitter,
  errorResponse,
  queryMessage,
  syncMessage,
} from "#embedd/embedded/protocol.js";
import { parseErrorMessage, readyForQuery } from "../../helpers/backend-messages.js";

function notification(channel: string, payload: string): Buffer {
  const body = Buffer.from(`\0\0\0\x07${channel}\0${payload}\0`);
  const head = Buffer.from("A\0\0\0\0");
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}

it("the reader finds the same messages at any chunk boundary", () => {
  const messages = [
    notification("embedd", "7"),
    readyForQuery("I"),
    errorResponse("ERROR", "22012", "division by zero"),
  ];
  const stream = Buffer.concat(messages);
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
      const found: Buffer[] = [];
      const split = createMessageSplitter((message) => found.push(message.bytes));
      const edges = [0, ...cuts.sort((a, b) => a - b), stream.length];
      for (let i = 1; i < edges.length; i++) split(stream.subarray(edges[i - 1], edges[i]));
      expect(found).toEqual(messages);
    }),
  );
});

it("the reader copies what it keeps, because PGlite reuses its memory", () => {
  const chunk = Uint8Array.from(notification("embedd", "payload").subarray(0, 12));
  const found: Buffer[] = [];
  const split = createMessageSplitter((message) => found.push(message.bytes));
  split(chunk);
  chunk.fill(0);
  split(notification("embedd", "payload").subarray(12));
  expect(found).toEqual([notification("embedd", "payload")]);
});

it("the reader decodes errors in any script", () => {
  expect(parseErrorMessage(errorResponse("ERROR", "XX000", "größer"))).toBe("größer");
});

it("an extended query is held back until its Sync", () => {
  const frontend = createFrontend("c1_");
  const parse = Buffer.from("P\0\0\0\x10\0select 1\0\0\0");
  expect(frontend.accept(parse)).toEqual({});
  const { execute } = frontend.accept(syncMessage());
  expect(execute?.subarray(0, parse.length)).toEqual(parse);
  expect(execute?.subarray(-5)).toEqual(syncMessage());
});

it("LISTEN is recognized as a statement, not as a word", () => {
  const frontend = createFrontend("");
  frontend.accept(queryMessage("select 'listen to me'"));
  expect(frontend.listens).toBe(false);
  frontend.accept(queryMessage('-- first\nLISTEN "embedd"'));
  expect(frontend.listens).toBe(true);
});
