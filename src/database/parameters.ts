/** A statement as pg takes it. */
export interface Statement {
  text: string;
  values: unknown[];
}

/** Adds a value to a statement; returns the `$n` that stands for it. */
export type Bind = (value: unknown) => string;

/** Numbers the parameters of one statement in the order in which they are bound, so that its SQL can use names. */
export function parameters(): { values: unknown[]; bind: Bind } {
  const values: unknown[] = [];
  return { values, bind: (value) => `$${values.push(value)}` };
}
