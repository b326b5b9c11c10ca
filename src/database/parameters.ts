/** A statement as pg takes it. */
export interface Statement {
  text: string;
  values: unknown[];
}

export interface Parameters {
  values: unknown[];
  /** Adds a value; returns the `$n` that stands for it. */
  bind: (value: unknown) => string;
}

/** Numbers the parameters of one statement in the order in which they are bound, so that its SQL can use names. */
export function parameters(): Parameters {
  const values: unknown[] = [];
  return { values, bind: (value) => `$${values.push(value)}` };
}
