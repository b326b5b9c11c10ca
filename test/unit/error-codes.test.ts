import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { ERROR_CODES } from "#embedd/error-codes.js";

/** A code as the source raises it, with its kind where the same expression says it. */
interface Use {
  code: string;
  kind: string | undefined;
  where: string;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const registered = new Set(Object.keys(ERROR_CODES));

function literalProperty(object: ts.ObjectLiteralExpression, name: string): string | undefined {
  for (const property of object.properties) {
    if (!ts.isPropertyAssignment(property) || property.name.getText() !== name) continue;
    if (ts.isStringLiteral(property.initializer)) return property.initializer.text;
  }
  return undefined;
}

/** Whether TypeScript accepts only codes of the registry here. */
function wantsCode(type: ts.Type | undefined): boolean {
  const members = type?.isUnion() ? type.types : [];
  const literals = members.filter((member) => (member.flags & ts.TypeFlags.Undefined) === 0);
  return literals.length > 0 && literals.every((m) => m.isStringLiteral() && registered.has(m.value));
}

function kindAt(literal: ts.StringLiteral): string | undefined {
  const { parent } = literal;
  if (ts.isPropertyAssignment(parent) && ts.isObjectLiteralExpression(parent.parent)) {
    return literalProperty(parent.parent, "kind");
  }
  if (ts.isCallExpression(parent) && parent.expression.getText() === "configurationError") {
    return "configuration";
  }
  return undefined;
}

/** Whether it is the value, or one of two, of something called `code`. */
function isCalledCode(literal: ts.StringLiteral): boolean {
  const { parent } = literal;
  const holder = ts.isConditionalExpression(parent) && parent.condition !== literal ? parent.parent : parent;
  const named = ts.isPropertyAssignment(holder) || ts.isVariableDeclaration(holder);
  return named && holder.name.getText() === "code";
}

/** Literals that are typed as codes, and those called `code`, such as a charged row's. */
function usesInTypeScript(): Use[] {
  const { config } = ts.readConfigFile(`${root}/tsconfig.json`, (path) => ts.sys.readFile(path)) as {
    config: unknown;
  };
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const program = ts.createProgram(fileNames, { ...options, noEmit: true });
  const checker = program.getTypeChecker();
  const uses: Use[] = [];
  for (const file of program.getSourceFiles()) {
    if (file.isDeclarationFile || file.fileName.endsWith("/error-codes.ts")) continue;
    const visit = (node: ts.Node): void => {
      if (ts.isStringLiteral(node)) {
        if (isCalledCode(node) || wantsCode(checker.getContextualType(node))) {
          const { line } = file.getLineAndCharacterOfPosition(node.getStart());
          uses.push({ code: node.text, kind: kindAt(node), where: `${file.fileName}:${line + 1}` });
        }
      }
      ts.forEachChild(node, visit);
    };
    visit(file);
  }
  return uses;
}

async function usesInMigrations(): Promise<Use[]> {
  const folder = `${root}/migrations/committed`;
  const files = (await readdir(folder)).filter((name) => name.endsWith(".sql"));
  const found = files.map(async (name) => {
    const text = await readFile(`${folder}/${name}`, "utf8");
    return [...text.matchAll(/embedd\.refuse\(\s*'(\w+)'/g)].map(([, code = ""]) => ({
      code,
      kind: "configuration",
      where: name,
    }));
  });
  return (await Promise.all(found)).flat();
}

describe("error codes", async () => {
  const uses = [...usesInTypeScript(), ...(await usesInMigrations())];

  it("are all in the registry", () => {
    expect(uses.filter(({ code }) => !registered.has(code))).toEqual([]);
  });

  it("are all raised somewhere", () => {
    const used = new Set(uses.map(({ code }) => code));
    expect([...registered].filter((code) => !used.has(code))).toEqual([]);
  });

  it("have one kind each", () => {
    const kinds: Record<string, string> = Object.fromEntries(
      Object.entries(ERROR_CODES).map(([code, { kind }]) => [code, kind]),
    );
    expect(uses.filter(({ code, kind }) => kind !== undefined && kind !== kinds[code])).toEqual([]);
  });

  it("are in alphabetical order, and explained in sentences", () => {
    expect([...registered]).toEqual([...registered].sort());
    for (const { meaning, fix } of Object.values(ERROR_CODES)) {
      expect(meaning).toMatch(/^[A-Za-z].*\.$/);
      expect(fix).toMatch(/^[A-Z].*\.$/);
    }
  });
});
