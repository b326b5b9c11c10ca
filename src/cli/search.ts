import type { Command } from "commander";
import { createProvider } from "../providers/create-provider.js";
import { pickPipeline } from "../admin/pick-pipeline.js";
import { search } from "../admin/search.js";
import type { SearchResult } from "../admin/search.sql.js";
import { DEFAULTS } from "../defaults.js";
import { visibleInLine } from "../visible.js";
import { wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { excerpt, printJson } from "./text.js";
import { print, printError } from "./print.js";

interface SearchFlags {
  table?: string;
  embedding?: string;
  limit: number;
  maxChars?: number;
  json?: boolean;
}

export function addSearch(program: Command): void {
  program
    .command("search <query>")
    .description("find the rows nearest in meaning, by cosine distance")
    .option("--table <name>", "the watched table (required if several are watched)")
    .option("--embedding <column>", "the embedding column (required if the table has several)")
    .option("--limit <n>", "show at most this many rows", wholeNumber, 5)
    .option(
      "--max-chars <n>",
      "print at most this many characters of each column (default: one line; with --json, 65536)",
      wholeNumber,
    )
    .option("--json", "print JSON")
    .addHelpText("after", '\nExample:\n  embedd search "how do I reset my password" --table docs')
    .action(async (query: string, flags: SearchFlags, command: Command) => {
      await withContext(command, async ({ pool, config, log }) => {
        await pickPipeline(pool, query, flags);
        const width = flags.maxChars ?? LINE_CHARS;
        // White space is shortened on a line, so a line may show more than its length.
        const maxChars = flags.json === true ? (flags.maxChars ?? DEFAULTS.maxChars) : 4 * width;
        const provider = await createProvider({ ...config, log });
        try {
          const { pipeline, results } = await search(pool, provider, query, { ...flags, maxChars });
          if (flags.json === true) printJson(results);
          else print(formatResults(results, width));
          if (results.length === 0) {
            const current = pipeline.model ?? pipeline.servedModel ?? provider.model;
            printError(
              `no row of ${pipeline.relation} has a vector from ${provider.model}` +
                (current === provider.model
                  ? "\n"
                  : `; its current model is ${current}: set EMBEDD_PROVIDER for that model\n`),
            );
            process.exitCode = EXIT.no;
          }
        } finally {
          await provider.close();
        }
      });
    });
}

/** What fits on a line next to the distance and the key. */
const LINE_CHARS = 100;

function formatResults(results: readonly SearchResult[], width: number): string {
  return results
    .map(({ key, distance, content, truncated }) => {
      const text = Object.values(content)
        .filter((value) => value !== null)
        .join(" ")
        .concat(truncated.length > 0 ? "…" : "");
      return `${distance.toFixed(4)}  ${visibleInLine(key)}  ${excerpt(text, width)}\n`;
    })
    .join("");
}
