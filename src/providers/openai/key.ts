import { readFileSync } from "node:fs";
import { configurationError, EmbeddError } from "../../errors.js";
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

/** @throws EmbeddError `configuration`/`api_key` when no header can carry the key */
export function givenKey(key: Secret | null, variable: string): KeySource {
  if (key !== null) checkKey(key.reveal(), variable);
  return { variable, current: () => key?.reveal() ?? null, reload: () => false };
}

function checkKey(key: string, variable: string): void {
  if (/^[\x21-\x7e]+$/.test(key)) return;
  throw configurationError(
    "api_key",
    `${variable} holds a character that no key has, such as a space, a line's end or an ellipsis; copy it anew`,
  );
}

/** @throws EmbeddError `configuration`/`api_key` when there is no key in the file */
export function fileKey(path: string): KeySource {
  const variable = "EMBEDD_API_KEY_FILE";
  const read = (): Secret | null => {
    const key = readFileSync(path, "utf8").trim();
    if (key === "") return null;
    checkKey(key, variable);
    return new Secret(key, variable);
  };
  let key: Secret | null;
  try {
    key = read();
  } catch (error) {
    if (error instanceof EmbeddError) throw error;
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
