import { configurationError, EmbeddError, messageOf } from "../../errors.js";
import { Secret } from "../../secret.js";
import { readSmallFile } from "../../small-file.js";
import { shellWord } from "../../shell-word.js";

/** Provides the API key. */
export interface KeySource {
  /** The variable to fix when the server rejects the key. */
  readonly variable: string;
  /** null: requests carry no key. */
  current(): string | null;
  /** Reads the key file again. @returns whether the key has changed */
  reload(): boolean;
}

/** @throws EmbeddError `configuration`/`api_key` if an HTTP header cannot carry the key */
export function givenKey(key: Secret | null, variable: string): KeySource {
  if (key !== null) checkKey(key.reveal(), variable);
  return { variable, current: () => key?.reveal() ?? null, reload: () => false };
}

function checkKey(key: string, variable: string): void {
  if (/^[\x21-\x7e]+$/.test(key)) return;
  throw configurationError(
    "api_key",
    `${variable} contains a character that is never part of a key, such as a space, a line break or an ellipsis; copy the key again`,
  );
}

/** @throws EmbeddError `configuration`/`api_key` if the file cannot be read or holds no key */
export function fileKey(path: string): KeySource {
  const variable = "EMBEDD_API_KEY_FILE";
  const read = (): Secret | null => {
    const key = readSmallFile(path).text.trim();
    if (key === "") return null;
    checkKey(key, variable);
    return new Secret(key, variable);
  };
  let key: Secret | null;
  try {
    key = read();
  } catch (error) {
    if (error instanceof EmbeddError) throw error;
    const why = (error as NodeJS.ErrnoException).code ?? messageOf(error);
    throw configurationError(
      "api_key",
      `${variable}: cannot read ${path} (${why})`,
      `ls -l ${shellWord(path)}`,
    );
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
        // The file is being replaced; the next rejected request reads it again.
      }
      return key?.reveal() !== before;
    },
  };
}
