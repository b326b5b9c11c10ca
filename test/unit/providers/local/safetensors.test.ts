import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { verifyChecksum } from "#embedd/providers/local/checksum.js";
import { readTensorTable } from "#embedd/providers/local/safetensors.js";
import { safetensors } from "./tiny-model.js";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "embedd-safetensors-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function written(bytes: Uint8Array): Promise<string> {
  const path = join(directory, "weights.safetensors");
  await writeFile(path, bytes);
  return path;
}

function withHeader(header: string, declared = Buffer.byteLength(header), data = 16): Uint8Array {
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(declared));
  return Buffer.concat([prefix, Buffer.from(header), Buffer.alloc(data)]);
}

const tensor = (fields: object): Uint8Array =>
  withHeader(JSON.stringify({ a: { dtype: "F32", shape: [2, 2], data_offsets: [0, 16], ...fields } }));

it("the header gives the position of each tensor", async () => {
  const table = await readTensorTable(
    await written(
      safetensors({
        a: [
          [1, 2],
          [3, 4],
        ],
        b: [5],
      }),
    ),
  );
  const a = table.get("a");
  const b = table.get("b");
  expect(a).toMatchObject({ dtype: "F32", shape: [2, 2], lengthBytes: 16 });
  expect(b).toMatchObject({ shape: [1], lengthBytes: 4, offsetBytes: (a?.offsetBytes ?? NaN) + 16 });
});

it.each([
  ["a file that is too short", Buffer.alloc(5), "8-byte length prefix"],
  ["a header that is cut off", withHeader("{}", 900), "cut off"],
  ["a header of absurd length", withHeader("{}", 2 ** 50), "header of 1125899906842624 bytes"],
  ["a header that is not JSON", withHeader("nonsense"), "not JSON"],
  ["a header that is a list", withHeader("[]"), "not a JSON object"],
  ["an unknown type", tensor({ dtype: "F3" }), 'tensor "a" has the unknown type F3'],
  ["a negative size", tensor({ shape: [-2, -2] }), "no valid shape"],
  ["offsets in reverse", tensor({ data_offsets: [16, 0] }), "no valid data_offsets"],
  ["a shape of another size", tensor({ shape: [3, 2] }), "do not match its shape [3, 2] of F32"],
  ["data beyond the end", tensor({ data_offsets: [8, 24] }), "beyond the end"],
])("refuses %s", async (_, bytes, message) => {
  await expect(readTensorTable(await written(bytes))).rejects.toMatchObject({
    kind: "configuration",
    code: "model_weights",
    message: expect.stringContaining(message) as unknown,
  });
});

it("the checksum refuses other weights every time, and a missing file", async () => {
  const path = await written(Buffer.from("weights"));
  const sha256 = "9a9c4d8de0a9f5d7f7f1c9f9cf4a9a49d3d0d0a4c2f5f4e3f7b8d3f0a5b6c7d8";
  for (let attempt = 0; attempt < 2; attempt++) {
    await expect(verifyChecksum(path, sha256)).rejects.toMatchObject({
      kind: "configuration",
      code: "model_checksum",
      hint: "npm ci",
      message: expect.stringContaining(path) as unknown,
    });
  }
  await expect(verifyChecksum(join(directory, "none"), sha256)).rejects.toMatchObject({
    code: "model_checksum",
  });
});

it("the checksum accepts the right weights, and reads them once", async () => {
  const path = await written(Buffer.from("abc"));
  const sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  await verifyChecksum(path, sha256);
  await rm(path);
  await verifyChecksum(path, sha256);
});
