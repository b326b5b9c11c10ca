import { inspect } from "node:util";

/** A value that only `reveal` shows. Logs, errors, JSON and `util.inspect` print a placeholder. */
export class Secret<T = string> {
  readonly #value: T;

  /** @param source where the value comes from, for messages: the variable's name */
  constructor(
    value: T,
    readonly source: string,
  ) {
    this.#value = value;
  }

  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return `[secret of ${this.source}]`;
  }
}
