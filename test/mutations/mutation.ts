/** A fault made on purpose: one place of the code is replaced, and then one of these test files must fail. */
export interface Mutation {
  /** What is broken, as a sentence: the mutation's name. */
  breaks: string;
  /** Relative to the repository's root: a file in src or migrations/committed. */
  file: string;
  /** The text to replace. It occurs once in the file. */
  find: string;
  /** What takes its place. */
  replace: string;
  /** Test files, the one that is most likely to fail first. */
  tests: readonly string[];
  /** Only tests whose names match this pattern. */
  named?: string;
  /** Why no test can fail: the mutation changes nothing that anybody could notice. It is not run. */
  equivalent?: string;
}

/** Whether a mutation's tests need no database. */
export const needsNothing = ({ tests }: Mutation): boolean =>
  tests.every((test) => test.startsWith("test/unit/") && !/^test\/unit\/(embedded|docs)\//.test(test));

/** Whether a mutation's tests need a server. */
export const needsServer = ({ tests }: Mutation): boolean =>
  tests.some((test) => /^test\/(server|security|faults)\//.test(test));
