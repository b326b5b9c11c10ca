import type { Mutation } from "../mutation.js";

const SETTINGS = "src/settings.ts";
const CONFIG = "src/config.ts";
const CONFIG_TEST = ["test/unit/config.test.ts"];

export const CONFIG_MUTATIONS: readonly Mutation[] = [
  {
    breaks: "a setting takes a number that is not whole",
    file: SETTINGS,
    find: "z.coerce.number({ error }).int({ error }).min(min",
    replace: "z.coerce.number({ error }).min(min",
    tests: CONFIG_TEST,
  },
  {
    breaks: "a whole number has no upper bound",
    file: SETTINGS,
    find: ".min(min, { error }).max(max, { error })",
    replace: ".min(min, { error })",
    tests: CONFIG_TEST,
  },
  {
    breaks: "a whole number has no lower bound",
    file: SETTINGS,
    find: ".min(min, { error }).max(max, { error })",
    replace: ".max(max, { error })",
    tests: CONFIG_TEST,
  },
  {
    breaks: "an amount may be negative",
    file: SETTINGS,
    find: "z.coerce.number({ error }).min(0, { error }).max(max, { error })",
    replace: "z.coerce.number({ error }).max(max, { error })",
    tests: CONFIG_TEST,
  },
  {
    breaks: "an amount has no upper bound",
    file: SETTINGS,
    find: ".min(0, { error }).max(max, { error })",
    replace: ".min(0, { error })",
    tests: CONFIG_TEST,
  },
  {
    breaks: "a worker may have fewer connections than it needs",
    file: SETTINGS,
    find: "whole(MIN_CONNECTIONS, 1_000)",
    replace: "whole(1, 1_000)",
    tests: CONFIG_TEST,
  },
  {
    breaks: "a header may hold a line break",
    file: SETTINGS,
    find: "/^[\\t\\x20-\\x7e\\x80-\\xff]*$/",
    replace: "/^[\\s\\x20-\\x7e\\x80-\\xff]*$/",
    tests: CONFIG_TEST,
  },
  {
    breaks: "an unknown setting is ignored",
    file: CONFIG,
    find: "...unknown.map((name) => `${name}: unknown setting`), ",
    replace: "",
    tests: CONFIG_TEST,
  },
  {
    breaks: "an empty variable is not unset",
    file: CONFIG,
    find: 'value !== "" && ',
    replace: "",
    tests: CONFIG_TEST,
  },
  {
    breaks: "a variable wins over a flag",
    file: CONFIG,
    find: "{ ...env, ...dropUndefined(overrides) }",
    replace: "{ ...dropUndefined(overrides), ...env }",
    tests: CONFIG_TEST,
  },
  {
    breaks: "a key and a key file are both taken",
    file: CONFIG,
    find: 'if (given["EMBEDD_API_KEY"] !== undefined && given["EMBEDD_API_KEY_FILE"] !== undefined) {',
    replace: "if (given === undefined) {",
    tests: ["test/unit/providers/openai/settings.test.ts"],
  },
  {
    breaks: "the provider's own variable wins over a key file",
    file: CONFIG,
    find: " || (variable === own && value.EMBEDD_API_KEY_FILE !== undefined)",
    replace: "",
    tests: ["test/unit/providers/openai/settings.test.ts"],
  },
  {
    breaks: "a key keeps the line break of its file",
    file: CONFIG,
    find: "value[variable]?.trim()",
    replace: "value[variable]",
    tests: ["test/unit/providers/openai/settings.test.ts", "test/unit/config.test.ts"],
  },
  {
    breaks: "EMBEDD_REUSE=off leaves reuse on",
    file: CONFIG,
    find: 'reuse: value.EMBEDD_REUSE === "on"',
    replace: 'reuse: value.EMBEDD_REUSE !== ""',
    tests: CONFIG_TEST,
  },
  {
    breaks: "the causes that the log remembers are unbounded",
    file: "src/logger.ts",
    find: "if (seen.size >= MAX_CAUSES) seen.clear();",
    replace: "",
    tests: ["test/unit/logger.test.ts"],
  },
  {
    breaks: "a repeated error is logged each time",
    file: "src/logger.ts",
    find: "at - last.at < REPEAT_MS",
    replace: "at - last.at < 0",
    tests: ["test/unit/logger.test.ts"],
  },
  {
    breaks: "the lines that were left out are not counted",
    file: "src/logger.ts",
    find: "last.suppressed++;",
    replace: "",
    tests: ["test/unit/logger.test.ts"],
  },
  {
    breaks: "levels share their count of repeats",
    file: "src/logger.ts",
    find: "`${level} ${message} ",
    replace: "`${message} ",
    tests: ["test/unit/logger.test.ts"],
  },
];
