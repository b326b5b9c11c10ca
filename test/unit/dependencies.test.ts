import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

/** What runs with a user's rights without being JavaScript that one can read. A new one needs a reason in its commit. */
const INSTALL_SCRIPTS = ["node_modules/onnx-proto/node_modules/protobufjs", "node_modules/onnxruntime-node"];
const MACHINE_CODE = [
  "node_modules/@electric-sql/pglite",
  "node_modules/onnxruntime-node",
  "node_modules/tokenizers",
];

interface LockedPackage {
  dev?: boolean;
  devOptional?: boolean;
}

const root = join(import.meta.dirname, "../..");
const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
  packages: Record<string, LockedPackage>;
};
/** Packages of other platforms are locked but not installed. */
const production = Object.entries(lock.packages)
  .filter(([path, { dev, devOptional }]) => path !== "" && dev !== true && devOptional !== true)
  .map(([path]) => path)
  .filter((path) => existsSync(join(root, path)))
  .sort();

function filesOf(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === "node_modules") return [];
    return entry.isDirectory() ? filesOf(join(folder, entry.name)) : [entry.name];
  });
}

it("only the known production dependencies run a script when they are installed", () => {
  const scripts = production.filter((path) => {
    const text = readFileSync(join(root, path, "package.json"), "utf8");
    const { scripts = {} } = JSON.parse(text) as { scripts?: Record<string, string> };
    return ["preinstall", "install", "postinstall"].some((name) => name in scripts);
  });
  expect(scripts).toEqual(INSTALL_SCRIPTS);
});

it("only the known production dependencies bring machine code", () => {
  const native = production.filter((path) =>
    filesOf(join(root, path)).some((name) =>
      /\.(node|wasm|dll|dylib|so)$|\.so\.\d|^binding\.gyp$/.test(name),
    ),
  );
  expect(native).toEqual(MACHINE_CODE);
});
