import { readFileSync } from "node:fs";
import { configurationError } from "../../errors.js";
import { Secret } from "../../secret.js";

/** Where the API's key comes from. */
export interface KeySource {
  /** The variable to mend when the server refuses the key. */
  readonly variable: string;
  /** null: requests go without a key. */
  current(): string | null;
  /** Reads a mounted file again; true: it holds another key than before. */
  reload(): boolean;
}

export function givenKey(key: Secret | null, variable: string): KeySource {
  return { variable, current: () => key?.reveal() ?? null, reload: () => false };
}

/** @throws EmbeddError `configuration`/`api_key` when there is no key in the file */
export function fileKey(path: string): KeySource {
  const variable = "EMBEDD_API_KEY_FILE";
  const read = (): Secret | null => {
    const key = readFileSync(path, "utf8").trim();
    return key === "" ? null : new Secret(key, variable);
  };
  let key: Secret | null;
  try {
    key = read();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unreadable";
    throw configurationError("api_key", `${variable}: cannot read ${path} (${code})`, `ls -l ${path}`);
  }
  if (key === null) throw configurationError("api_key", `${variable}: ${path} is empty`);
  return {
    variable,
    current: () => key?.reveal() ?? null,
    reload() {
      const before = key?.reveal();
      try {
        key = read() ?? key;
      } catch {
        // In the middle of being replaced; the next refusal reads it again.
      }
      return key?.reveal() !== before;
    },
  };
}
