import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { nativeLibraryError } from "#embedd/providers/local/native-library.js";
import { damaged, INFERENCE_BINDING, INFERENCE_LIBRARIES } from "../../../helpers/installation.js";
import type { Installation } from "../../../helpers/installation.js";

/** The error of a program that creates the local provider. */
async function errorOf({ directory }: Installation): Promise<unknown> {
  const program = `
    import { createProvider } from "./dist/providers/create-provider.js";
    const { kind, code, message, hint } = await createProvider({ provider: "local" }).catch((error) => error);
    console.log(JSON.stringify({ kind, code, message, hint }));`;
  const run = promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: directory,
  });
  return JSON.parse((await run).stdout) as unknown;
}

const saying = (pattern: RegExp): object => ({
  kind: "configuration",
  code: "native_library",
  message: expect.stringMatching(pattern) as unknown,
  hint: "npm ci",
});

it("a missing library is named", async () => {
  const wanted = saying(/of onnxruntime-node: Cannot find module .*onnxruntime_binding\.node'\n/);
  expect(await errorOf(await damaged(INFERENCE_BINDING, null))).toMatchObject(wanted);
});

it("a missing shared library of a library is named [needs Linux]", async () => {
  const wanted = saying(/of onnxruntime-node: libonnxruntime\.so\.1: cannot open shared object file/);
  expect(await errorOf(await damaged([...INFERENCE_LIBRARIES, "libonnxruntime.so.1"], null))).toMatchObject(
    wanted,
  );
});

it("a damaged tokenizer library is named [needs Linux]", async () => {
  const file = ["tokenizers", `tokenizers.linux-${process.arch}-gnu.node`];
  const wanted = saying(/of tokenizers: .*-gnu\.node: /);
  expect(await errorOf(await damaged(file, "no library"))).toMatchObject(wanted);
});

it("the message says what a system without glibc, or with another processor, lacks", () => {
  const hint = "EMBEDD_PROVIDER=ollama embedd run";
  const alpine = { platform: "linux", arch: "x64", glibc: undefined };
  const musl = nativeLibraryError("onnxruntime-node", new Error("no ld-linux"), alpine);
  expect(musl.message).toMatch(/no ld-linux\n.*glibc 2\.28.*; this is linux with musl on x64$/);
  expect(musl.hint).toBe(hint);
  const board = { platform: "linux", arch: "riscv64", glibc: "2.39" };
  const other = nativeLibraryError("tokenizers", new Error("no module\nRequire stack:\n- /app"), board);
  expect(other.message).toMatch(/: no module\n.*; this is linux with glibc 2\.39 on riscv64$/);
  expect(other.hint).toBe(hint);
});
