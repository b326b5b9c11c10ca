import { expect, it } from "vitest";
import { chargeFailures } from "#embedd/worker/write/failures.sql.js";
import type { RefusedRow } from "#embedd/worker/rows.js";
import { useDatabase } from "../../../helpers/database.js";

const db = useDatabase();

const policy = { kind: "pending", maxAttempts: 3, baseDelayMs: 10_000, maxDelayMs: 30_000 } as const;

const refused = (id: number, text: number, code = "bad_input"): RefusedRow => ({
  row: { keyText: String(id), key: [String(id)], hash: Buffer.alloc(32, text) },
  code,
  message: `refused ${code}`,
});

async function pipelineId(): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    "select id from embedd.pipelines where relation = 'embedd.chunks'::regclass",
  );
  return rows[0]?.id ?? 0;
}

const failures = async () =>
  (
    await db.query<{
      key: string;
      attempts: number;
      code: string;
      dead: boolean;
      stale: boolean;
      ms: number;
    }>(
      `select key, attempts, code, dead, stale, extract(epoch from next_attempt_at - failed_at)::float8 * 1000 as ms
       from embedd.failures order by key`,
    )
  ).rows;

it("charges many rows at once, counts attempts per text, and doubles the delay up to its limit", async () => {
  const id = await pipelineId();
  await chargeFailures(db.pool, id, [], policy);
  expect(await failures()).toEqual([]);

  const batch = Array.from({ length: 300 }, (_, i) => refused(i + 100, 1));
  await chargeFailures(db.pool, id, batch, policy);
  const first = await failures();
  expect(first).toHaveLength(300);
  for (const failure of first) {
    expect(failure).toMatchObject({ attempts: 1, code: "bad_input", dead: false, stale: false });
    expect(failure.ms).toBeGreaterThanOrEqual(5_000);
    expect(failure.ms).toBeLessThanOrEqual(10_000);
  }
  expect(new Set(first.map(({ ms }) => ms)).size, "each row has its own jitter").toBeGreaterThan(100);

  // The same text again, another text, and a row without an entry.
  await chargeFailures(
    db.pool,
    id,
    [refused(102, 1, "too_long"), refused(100, 1), refused(101, 2), refused(999, 1)],
    policy,
  );
  const second = new Map((await failures()).map((failure) => [failure.key, failure]));
  expect(second.get("100")).toMatchObject({ attempts: 2, dead: false });
  expect(second.get("100")?.ms).toBeGreaterThanOrEqual(10_000);
  expect(second.get("100")?.ms).toBeLessThanOrEqual(20_000);
  expect(second.get("101")).toMatchObject({ attempts: 1, dead: false });
  expect(second.get("101")?.ms).toBeLessThanOrEqual(10_000);
  expect(second.get("102")).toMatchObject({ attempts: 2, code: "too_long" });
  expect(second.get("103")).toMatchObject({ attempts: 1 });
  expect(second.get("999")).toMatchObject({ attempts: 1 });

  await chargeFailures(db.pool, id, [refused(100, 1), refused(101, 2)], { ...policy, kind: "stale" });
  const third = new Map((await failures()).map((failure) => [failure.key, failure]));
  expect(third.get("100")).toMatchObject({ attempts: 3, dead: true, stale: true });
  expect(third.get("100")?.ms, "up to the limit").toBeLessThanOrEqual(30_000);
  expect(third.get("101")).toMatchObject({ attempts: 2, dead: false, stale: true });
  await db.query("delete from embedd.failures");
});

it("with a single attempt a row is dead at once, and with another text as well", async () => {
  const id = await pipelineId();
  await chargeFailures(db.pool, id, [refused(1, 1)], { ...policy, maxAttempts: 1 });
  await chargeFailures(db.pool, id, [refused(1, 2)], { ...policy, maxAttempts: 1 });
  expect(await failures()).toMatchObject([{ key: "1", attempts: 1, dead: true }]);
  await db.query("delete from embedd.failures");
});
