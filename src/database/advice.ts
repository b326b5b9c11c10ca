/** Splits `what is wrong; what to type`, as embedd.pipelines and embedd.status hold it. */
export function splitAdvice(problem: string): [what: string, cure: string] {
  const at = problem.indexOf("; ");
  return at < 0 ? [problem, ""] : [problem.slice(0, at), problem.slice(at + 2)];
}
