import { inspect } from "node:util";

/** A value that is shown by no log, error, JSON or debugger's print, only by `reveal`. */
export class Secret<T = string> {
  readonly #value: T;

  /** @param source where it comes from, for messages: the variable's name */
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
