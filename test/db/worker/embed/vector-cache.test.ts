import { beforeEach, expect, it } from "vitest";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import type { Pipeline } from "#embedd/database/pipeline.js";
import { EmbeddError } from "#embedd/errors.js";
import { silentLogger } from "#embedd/logger.js";
import { createReuse } from "#embedd/worker/embed/reuse.js";
import type { ReuseOptions } from "#embedd/worker/embed/reuse.js";
import { cacheVectors, evictLeastUsed, findCached } from "#embedd/worker/embed/vector-cache.sql.js";
import { useDatabase } from "../../../helpers/database.js";
import { hashVector } from "../../../helpers/providers.js";

const db = useDatabase();
let pipeline: Pipeline;
const hash = (i: number) => i.toString(16).padStart(64, "0");

beforeEach(async () => {
  await db.query("delete from embedd.vectors");
  const { pipelines } = await loadPipelines(db.pool);
  const found = pipelines.find(({ relation }) => relation === "embedd.chunks");
  if (found === undefined) throw new Error("embedd.chunks is not watched");
  pipeline = found;
});

/** Embeds texts through the cache. @returns those that were computed */
async function embed(
  texts: readonly string[],
  {
    owner = pipeline.ownerOid,
    refuse = "",
    ...options
  }: Partial<ReuseOptions> & { owner?: number; refuse?: string } = {},
  reuse = createReuse(db.pool, { maxBytes: 2 ** 30, log: silentLogger }),
): Promise<string[]> {
  const computed: string[] = [];
  const { cache } = await reuse.embed({ ...pipeline, ownerOid: owner }, "m", texts, {
    maxComputed: 100,
    compute: (missing) => {
      computed.push(...missing);
      return Promise.resolve(
        missing.map((text) =>
          text === refuse
            ? { error: new EmbeddError("refused", { kind: "row", code: "refused_input" }) }
            : { embedding: hashVector(text) },
        ),
      );
    },
    ...options,
  });
  await cache();
  return computed;
}

it("a cached vector is found by its model and dimensions alone", async () => {
  const space = { model: "m", dimensions: 3 };
  await cacheVectors(db.pool, pipeline, space, [{ hash: hash(1), embedding: hashVector("a", 3) }]);
  const found = async (other: Partial<typeof space>) =>
    (await findCached(db.pool, pipeline, { ...space, ...other }, [hash(1)])).vectors.size;
  expect(await found({})).toBe(1);
  expect(await found({ dimensions: 384 })).toBe(0);
  expect(await found({ model: "other" })).toBe(0);
});

it("a cached vector belongs to its owner, and to how the model read the text", async () => {
  expect(await embed(["a"])).toEqual(["a"]);
  expect(await embed(["a"])).toEqual([]);
  expect(await embed(["a"], { owner: pipeline.ownerOid + 1 })).toEqual(["a"]);
  expect(await embed(["a"], { reading: "query: " })).toEqual(["a"]);
});

it("a vector that is used is the last to be dropped", async () => {
  expect(await embed(["a"])).toEqual(["a"]);
  await db.query("update embedd.vectors set used_at = now() - interval '3 days'");
  expect(await embed(["b"])).toEqual(["b"]);
  await db.query(
    "update embedd.vectors set used_at = now() - interval '2 days' where used_at > now() - interval '1 h'",
  );
  expect(await embed(["a"])).toEqual([]);
  const { rows } = await db.query("select from embedd.vectors where used_at > now() - interval '1 h'");
  expect(rows, "it was used today").toHaveLength(1);
  await evictLeastUsed(db.pool, 1);
  expect(await embed(["a", "b"])).toEqual(["b"]);
});

it("no more texts are computed than asked for, and none that failed is cached", async () => {
  expect(await embed(["a", "b", "c"], { maxComputed: 2, refuse: "b" })).toEqual(["a", "b"]);
  expect(await embed(["a", "b", "c"])).toEqual(["b", "c"]);
});

it("after a fault the cache is left alone for a while", async () => {
  const reuse = createReuse(db.pool, { maxBytes: 2 ** 30, log: silentLogger });
  await db.query("alter table embedd.vectors rename to vectors_away");
  try {
    expect(await embed(["a"], {}, reuse)).toEqual(["a"]);
  } finally {
    await db.query("alter table embedd.vectors_away rename to vectors");
  }
  expect(await embed(["a"], {}, reuse)).toEqual(["a"]);
  expect((await db.query("select from embedd.vectors")).rowCount).toBe(0);
});
