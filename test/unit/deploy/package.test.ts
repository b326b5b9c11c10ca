import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

interface LockedPackage {
  resolved?: string;
  hasInstallScript?: boolean;
}
interface Manifest {
  name: string;
  bin: Record<string, string>;
  dependencies: Record<string, string>;
}

const read = (name: string): string => readFileSync(new URL(`../../../${name}`, import.meta.url), "utf8");
const manifest = JSON.parse(read("package.json")) as Manifest;
const lock = JSON.parse(read("package-lock.json")) as {
  name: string;
  packages: Record<string, LockedPackage>;
};

it("is called pg-embedd, and its command pg-embedd or embedd", () => {
  expect(manifest.name).toBe("pg-embedd");
  expect(lock.name).toBe("pg-embedd");
  expect(manifest.bin).toEqual({ "pg-embedd": "./dist/cli/main.js", embedd: "./dist/cli/main.js" });
});

describe("npm ci", () => {
  // npm runs a script only of packages that the lockfile says have one. That of onnxruntime-node downloads CUDA files
  // and fails without a network. `npm install` adds the line again when it fetches the package: delete it.
  it("does not run the script of onnxruntime-node, in any version of npm", () => {
    const locked = lock.packages["node_modules/onnxruntime-node"];
    expect(locked).toBeDefined();
    expect(locked?.hasInstallScript).toBeUndefined();
    expect(manifest).toHaveProperty("allowScripts.onnxruntime-node", false);
  });

  it("prints no warning about an unknown setting", () => {
    expect(read(".npmrc").trim().split("\n")).toEqual([
      "omit-lockfile-registry-resolved=true",
      "fund=false",
      "audit=false",
    ]);
  });

  it("takes packages from the registry of the machine", () => {
    const fixed = Object.entries(lock.packages).filter(([, { resolved }]) => resolved !== undefined);
    expect(fixed).toEqual([]);
  });
});

it("brings the types that its own types import", () => {
  expect(manifest.dependencies).toHaveProperty("@types/pg");
});
