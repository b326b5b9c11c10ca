import { defineConfig, globalIgnores } from "eslint/config";
import { createNodeResolver, importX } from "eslint-plugin-import-x";
import tseslint from "typescript-eslint";

/** Imports point one way: cli → admin → worker → (database, providers, embedded) → (errors, logger, …). */
const forbidden = {
  "src/admin": ["cli", "embedded"],
  "src/worker": ["cli", "admin", "embedded"],
  "src/database": ["cli", "admin", "worker", "providers", "embedded"],
  "src/providers": ["cli", "admin", "worker", "database", "embedded"],
  "src/embedded": ["cli", "admin", "worker", "database", "providers"],
};

const processEnv = {
  selector: "MemberExpression[object.name='process'][property.name='env']",
  message: "Only src/config.ts reads the environment.",
};

const rawOutput = {
  selector: "CallExpression[callee.property.name='write'][callee.object.object.name='process']",
  message: "src/cli/print.ts escapes what a terminal would obey.",
};

const oneWayMessage =
  "Imports point one way: cli → admin → worker → (database, providers, embedded) → (errors, logger, …).";

function restrictImports(files, folders) {
  const patterns = [
    { regex: `^\\.{1,2}/(\\.\\./)*(${folders.join("|")})/`, message: oneWayMessage },
    { regex: "^(\\.\\./)+index\\.js$", message: "The public entry is for applications." },
    { regex: "^#embedd/", message: "This name is for tests; src imports by relative paths." },
  ];
  return { files, rules: { "no-restricted-imports": ["error", { patterns }] } };
}

/** SQL files (*.sql.ts) import the database and plain data, never a provider or the CLI. */
const notInStatements = ["cli", "providers", "embedded"];

const oneWay = Object.entries(forbidden).flatMap(([folder, others]) => [
  restrictImports([`${folder}/**/*.ts`], others),
  restrictImports([`${folder}/**/*.sql.ts`], [...new Set([...others, ...notInStatements])]),
]);

export default defineConfig(
  globalIgnores(["dist/", ".embedd/", ".bench/", ".faults/"]),
  {
    files: ["src/**/*.ts", "test/**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { project: ["./test/tsconfig.json"], tsconfigRootDir: import.meta.dirname },
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "@typescript-eslint/consistent-type-imports": "error",
      // Allows numbers and booleans in messages, but no objects.
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      // Allows `() => resolve()`.
      "@typescript-eslint/no-confusing-void-expression": [
        "error",
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      // Off: the rule misses that a closure can change a variable during an await.
      "@typescript-eslint/no-unnecessary-condition": "off",
      // Off: allows process.env["NAME"], which marks access through an index signature.
      "@typescript-eslint/dot-notation": "off",
    },
  },
  {
    files: ["src/**/*.ts"],
    rules: {
      "max-lines": ["error", 250],
      "no-console": "error",
      "no-restricted-syntax": ["error", processEnv, rawOutput],
    },
  },
  { files: ["src/config.ts"], rules: { "no-restricted-syntax": ["error", rawOutput] } },
  { files: ["src/cli/print.ts"], rules: { "no-restricted-syntax": ["error", processEnv] } },
  ...oneWay,
  // Settings take the presets' defaults, so src itself may import providers. The public entry may import everything.
  {
    ...restrictImports(["src/*.ts"], ["cli", "admin", "worker", "database", "embedded"]),
    ignores: ["src/index.ts"],
  },
  {
    files: ["src/**/*.ts"],
    plugins: { "import-x": importX },
    settings: {
      "import-x/resolver-next": [createNodeResolver({ extensionAlias: { ".js": [".ts"] } })],
      "import-x/parsers": { "@typescript-eslint/parser": [".ts"] },
    },
    rules: { "import-x/no-cycle": "error" },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // Off: tests pass methods to expect().
      "@typescript-eslint/unbound-method": "off",
    },
  },
  {
    files: ["**/*.js", "**/*.mjs"],
    extends: [tseslint.configs.recommended],
  },
);
