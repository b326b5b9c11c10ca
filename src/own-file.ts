import { existsSync } from "node:fs";
import { configurationError } from "./errors.js";

/**
 * The address of a file of this package that is not imported, because it must not be part of a bundle. Bundlers resolve
 * `new URL("…", import.meta.url)` when they run, and fail; they leave this call alone.
 * @param base `import.meta.url` of the caller; undefined in some bundles
 * @param path relative to `base`
 * @param what names the file's content in the error
 * @throws EmbeddError `configuration`/`bundled` if the file is not there
 */
export function ownFile(base: string | undefined, path: string, what: string): URL {
  const url = base?.startsWith("file:") === true ? new URL(path, base) : undefined;
  if (url !== undefined && existsSync(url)) return url;
  throw configurationError(
    "bundled",
    `${what} cannot be found: this program is a bundle, and a bundle does not contain them. ` +
      "Mark pg-embedd as external in the bundler's settings, and install it where the program runs",
    "npm install pg-embedd",
  );
}
