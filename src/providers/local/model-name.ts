import { createHash } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { configurationError, messageOf } from "../../errors.js";
import { shellWord } from "../../shell-word.js";
import { sha256Of } from "./checksum.js";
import { exists } from "./json-file.js";

/** The folder's name. A snapshot in Hugging Face's cache is named after its commit, and its model further up. */
export function folderName(root: string): string {
  const path = resolve(root);
  const cached = /[\\/]models--([^\\/]+)[\\/]snapshots[\\/][^\\/]+$/.exec(path)?.[1];
  if (cached === undefined) return basename(path);
  // models--organization--name; a few old models have no organization.
  const [first = "", ...rest] = cached.split("--");
  return rest.length === 0 ? first : rest.join("--");
}

/**
 * The name for a folder's vectors: `folder@1a2b3c4d`, with a checksum of all that decides about them, because folders of
 * one name may hold different models.
 * @param weightsPath in ONNX, the weights may be in files next to it, such as `model.onnx_data`
 * @param settings how texts are cut, how their tokens are pooled, and what the graph is built from
 * @throws EmbeddError `configuration`/`model_missing` if a file cannot be read
 */
export async function checkedName(
  root: string,
  { weightsPath, tokenizerPath, settings }: { weightsPath: string; tokenizerPath: string; settings: object },
): Promise<string> {
  const folder = dirname(weightsPath);
  const hash = createHash("sha256").update(JSON.stringify(settings));
  try {
    const names = (await readdir(folder)).filter((name) => isWeights(name, basename(weightsPath))).sort();
    const paths = names.map((name) => join(folder, name));
    // Loading the tokenizer says that it is missing.
    if (await exists(tokenizerPath)) paths.push(tokenizerPath);
    for (const path of paths) {
      // A FIFO or a device would keep it reading without end.
      if (!(await stat(path)).isFile()) throw new Error(`${path} is not a regular file`);
      hash.update(await sha256Of(path));
    }
  } catch (error) {
    throw configurationError(
      "model_missing",
      `cannot read the model's files: ${messageOf(error)}`,
      `ls ${shellWord(root)}`,
    );
  }
  return `${folderName(root)}@${hash.digest("hex").slice(0, 8)}`;
}

/** Whether a file is the model or has weights of it, rather than a checksum or a copy that somebody left there. */
function isWeights(name: string, model: string): boolean {
  return name.startsWith(model) && /^([._]data(_\d+)?)?$/.test(name.slice(model.length));
}
