import { execFile } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { nativeLibraryError } from "#embedd/providers/local/native-library.js";
import { spawnCli } from "../../../helpers/cli.js";
import { install } from "../../../helpers/installation.js";
import type { Installation } from "../../../helpers/installation.js";

const runtime = ["onnxruntime-node", "bin", "napi-v6", process.platform, process.arch];
const BINDING = [...runtime, "onnxruntime_binding.node"];

/** An installation in which a library's file is missing, or has this content. */
async function damaged(file: readonly string[], content: string | null): Promise<Installation> {
  const installation = await install(file.slice(0, 1));
  const path = installation.file("node_modules", ...file);
  await rm(path);
  if (content !== null) await writeFile(path, content);
  return installation;
}

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

it("a damaged inference library stops run with the loader's words", async () => {
  const { main, directory } = await damaged(BINDING, "no library");
  const { code, stderr } = await spawnCli(["run"], { main, cwd: directory }).exited;
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /^embedd: cannot load the native library of onnxruntime-node: .*onnxruntime_binding\.node: .+\n {2}it needs Linux with glibc .*; this is .+\n {2}try: npm ci$/m,
  );
});

it("a damaged inference library fails doctor, which checks the rest", async () => {
  const { main, directory } = await damaged(BINDING, "no library");
  const { code, stdout } = await spawnCli(["doctor"], { main, cwd: directory }).exited;
  expect(code).toBe(1);
  expect(stdout).toMatch(/^FAIL {2}model: cannot load the native library of onnxruntime-node: /m);
  expect(stdout).toMatch(/^ok .*PostgreSQL/m);
});

it("a missing library is named", async () => {
  const wanted = saying(/of onnxruntime-node: Cannot find module .*onnxruntime_binding\.node'\n/);
  expect(await errorOf(await damaged(BINDING, null))).toMatchObject(wanted);
});

it("a missing shared library of a library is named [needs Linux]", async () => {
  const wanted = saying(/of onnxruntime-node: libonnxruntime\.so\.1: cannot open shared object file/);
  expect(await errorOf(await damaged([...runtime, "libonnxruntime.so.1"], null))).toMatchObject(wanted);
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
