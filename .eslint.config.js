import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

/** Imports point one way: cli → worker → (sql, providers, embedded) → (errors, logger). */
const forbidden = {
  "src/worker": ["cli", "embedded"],
  "src/sql": ["cli", "worker", "providers", "embedded"],
  "src/providers": ["cli", "worker", "sql", "embedded"],
  "src/embedded": ["cli", "worker", "sql", "providers"],
};

const processEnv = {
  selector: "MemberExpression[object.name='process'][property.name='env']",
  message: "Only src/config.ts reads the environment.",
};

const oneWay = Object.entries(forbidden).map(([folder, others]) => ({
  files: [`${folder}/**/*.ts`],
  rules: {
    "no-restricted-imports": [
      "error",
      {
        patterns: [
          {
            regex: `^(\\.\\./)+(${others.join("|")})/`,
            message: "Imports point one way: cli → worker → (sql, providers, embedded) → (errors, logger).",
          },
          { regex: "^(\\.\\./)+index\\.js$", message: "The public entry is for applications." },
        ],
      },
    ],
  },
}));

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
      // Numbers in messages are what one expects; objects are not.
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      // `() => resolve()` says enough.
      "@typescript-eslint/no-confusing-void-expression": [
        "error",
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      // It does not see that a closure may change a variable during an await.
      "@typescript-eslint/no-unnecessary-condition": "off",
      // process.env["NAME"] is what noPropertyAccessFromIndexSignature would ask for.
      "@typescript-eslint/dot-notation": "off",
    },
  },
  {
    files: ["src/**/*.ts"],
    rules: {
      "max-lines": ["error", 250],
      "no-console": "error",
      "no-restricted-syntax": ["error", processEnv],
    },
  },
  { files: ["src/config.ts"], rules: { "no-restricted-syntax": "off" } },
  { files: ["src/cli/**/*.ts"], rules: { "no-console": "off" } },
  ...oneWay,
  {
    files: ["test/**/*.ts"],
    rules: {
      // Expectations look at anything, and a test may hand over a method.
      "@typescript-eslint/unbound-method": "off",
    },
  },
  {
    files: ["**/*.js", "**/*.mjs"],
    extends: [tseslint.configs.recommended],
  },
);
