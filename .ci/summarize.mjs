// Usage: node summarize.mjs SERVER_REPORT EMBEDDED_REPORT, both vitest JSON reports. Sums up their tests; a skipped
// test in the server's report is an error. Names each failed test with its message. The last line is
// `N passed, N failed, N skipped`.
import { readFileSync } from "node:fs";

const total = { passed: 0, failed: 0, skipped: 0 };
const problems = [];
const messageLines = 15;

/** The failed test's name and the first lines of its messages, without terminal colors. */
function failure(where, test) {
  const message = test.failureMessages.join("\n").replace(/\u001b\[[0-9;]*m/g, "");
  const lines = message.split("\n").slice(0, messageLines);
  return [`failed test (${where}): ${test.fullName}`, ...lines.map((line) => `    ${line}`)].join("\n");
}

process.argv.slice(2).forEach((path, index) => {
  const where = index === 0 ? "on the server" : "embedded";
  let report;
  try {
    report = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    problems.push(`cannot read the test report (${where}): ${error.message}`);
    total.failed += 1;
    return;
  }
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of report.testResults) {
    for (const test of file.assertionResults) {
      if (test.status === "passed") counts.passed += 1;
      else if (test.status === "failed") {
        counts.failed += 1;
        problems.push(failure(where, test));
      } else counts.skipped += 1;
      if (index === 0 && !["passed", "failed"].includes(test.status)) {
        problems.push(`skipped test (on the server): ${test.fullName}`);
      }
    }
    // A file that fails to load, or whose hooks fail, counts as a failure even if no test in it failed.
    if (file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed")) {
      counts.failed += 1;
      problems.push(`test file failed (${where}): ${file.name}\n    ${file.message ?? ""}`);
    }
  }
  if (counts.passed + counts.failed === 0) problems.push(`no tests ran (${where})`);
  console.log(`${where}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  for (const key of Object.keys(total)) total[key] += counts[key];
});

for (const problem of problems) console.log(problem);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = problems.length > 0 || total.failed > 0 ? 1 : 0;
