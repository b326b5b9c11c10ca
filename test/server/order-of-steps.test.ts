import fc from "fast-check";
import { inject, it } from "vitest";
import { describeServer } from "../helpers/database.js";
import { runSequence } from "../order/run.js";
import type { Step } from "../order/run.js";
import { sequences } from "../order/shrink.js";

/*
 * The short form of `npm run test:order`. The first sequences find at once what random ones find in minutes: a vector
 * that is written to a newer text, or kept although an edit outdated it. All wait for workers most of the time, so two
 * run next to each other; more would need more connections than a server's default.
 */
const LANES = 2;
const RANDOM = { seed: 102, numRuns: 1 };

/** With --existing refresh and no template; nobody writes meanwhile. */
const watchAndRefresh: Step = { name: "watch", seed: 2 };
/** Without --existing. */
const watchWithoutChoice: Step = { name: "watch", seed: 1 };
const settle: Step = { name: "settle", seed: 0 };
const step = (name: string, seed = 1): Step => ({ name, seed });
const watched = [watchAndRefresh, settle];
/** Each gives all rows a new text, other than the others do. */
const editsOfAll = [6, 75, 169].map((seed) => step("edit", seed));
/** Each of another row, a few milliseconds apart, so that some meet their row in flight. */
const editsOfOne = [37, 5, 46, 25, 28].map((seed) => step("edit", seed));
const edits = [...editsOfAll, ...editsOfOne];

const known: Record<string, Step[]> = {
  "edits of rows in flight": [...watched, ...editsOfAll.flatMap((edit) => [edit, ...editsOfOne, settle])],
  "an edit between unwatch and watch": [
    ...watched,
    step("unwatch", 2),
    ...edits,
    watchWithoutChoice,
    settle,
    watchAndRefresh,
  ],
  "an edit while triggers are disabled": [
    ...watched,
    step("disable triggers"),
    ...edits,
    step("enable triggers"),
    settle,
  ],
  "a table swapped with one that is watched then": [...watched, step("swap"), watchAndRefresh, ...edits],
  "a table restored over an edited one": [...watched, step("dump"), ...edits, step("restore"), ...edits],
  "uninstall next to a busy worker": [...watched, step("uninstall", 7), step("migrate"), watchAndRefresh],
};

async function run(steps: readonly Step[]): Promise<void> {
  const database = inject("databaseTemplate");
  if (database.kind !== "server") throw new Error("needs a server");
  await runSequence({ serverUrl: database.serverUrl, template: database.name, steps });
}

const lanes = Array.from({ length: LANES }, () => Promise.resolve());
let count = 0;

function inLane(work: () => Promise<void>): Promise<void> {
  const lane = count++ % LANES;
  const done = (lanes[lane] ?? Promise.resolve()).then(work);
  lanes[lane] = done.catch(() => undefined);
  return done;
}

/** For all of them: a sequence's time runs while it waits for its lane. */
const TIMEOUT_MS = 1_200_000;

describeServer("each vector belongs to its text, or status says that it may not", () => {
  it.concurrent.each(Object.entries(known))("after %s", (_, steps) => inLane(() => run(steps)), TIMEOUT_MS);

  it.concurrent(
    "after random commands and edits",
    () => inLane(() => fc.assert(fc.asyncProperty(sequences(8), run), { ...RANDOM, endOnFailure: true })),
    TIMEOUT_MS,
  );
});
