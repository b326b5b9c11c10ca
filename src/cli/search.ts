import type { Command } from "commander";
import { createProvider } from "../providers/create-provider.js";
import { pickPipeline } from "../admin/pick-pipeline.js";
import { search } from "../admin/search.js";
import type { SearchResult } from "../admin/search.sql.js";
import { wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { excerpt, printResult } from "./text.js";

interface SearchFlags {
  table?: string;
  embedding?: string;
  limit: number;
  json?: boolean;
}

export function addSearch(program: Command): void {
  program
    .command("search <query>")
    .description("find the rows nearest in meaning, by cosine distance")
    .option("--table <name>", "the watched table (required if several are watched)")
    .option("--embedding <column>", "the embedding column (required if the table has several)")
    .option("--limit <n>", "show at most this many rows", wholeNumber, 5)
    .option("--json", "print JSON")
    .addHelpText("after", '\nExample:\n  embedd search "how do I reset my password" --table docs')
    .action(async (query: string, flags: SearchFlags, command: Command) => {
      await withContext(command, async ({ pool, config, log }) => {
        await pickPipeline(pool, query, flags);
        const provider = await createProvider({ ...config, log });
        try {
          const { pipeline, results } = await search(pool, provider, query, { ...flags, maxChars: 400 });
          printResult(results, flags.json, formatResults);
          if (results.length === 0) {
            const current = pipeline.model ?? pipeline.servedModel ?? provider.model;
            process.stderr.write(
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

function formatResults(results: readonly SearchResult[]): string {
  return results
    .map(({ key, distance, content }) => {
      const text = Object.values(content)
        .filter((value) => value !== null)
        .join(" ");
      return `${distance.toFixed(4)}  ${key}  ${excerpt(text, 100)}\n`;
    })
    .join("");
}
