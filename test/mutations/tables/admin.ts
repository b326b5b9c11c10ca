import type { Mutation } from "../mutation.js";

const SQL = "migrations/committed/";
const TEST = ["test/server/admin/promises.test.ts"];

export const ADMIN: readonly Mutation[] = [
  {
    breaks: "a wait that is over is still shown",
    file: SQL + "000006-status.sql",
    find: "case when p.wait_until > now() then p.wait_reason end",
    replace: "p.wait_reason",
    tests: TEST,
  },
  {
    breaks: "a dead row counts as pending",
    file: SQL + "000006-status.sql",
    find: "greatest(counts.pending - failures.dead_pending, 0)",
    replace: "counts.pending",
    tests: TEST,
  },
  {
    breaks: "triggers that ignore replicated changes are no gap",
    file: SQL + "000003-shape.sql",
    find: " or (t.tgenabled = 'O' and needed.event in ('before_edit', 'before_unread'))",
    replace: "",
    tests: TEST,
  },
  {
    breaks: "unwatch leaves the vector index",
    file: SQL + "000005-watch.sql",
    find: "      embedd.pending_index_name(pipeline.id), embedd.vector_index_name(pipeline.id))\n  loop",
    replace: "      embedd.pending_index_name(pipeline.id), embedd.pending_index_name(pipeline.id))\n  loop",
    tests: TEST,
  },
  {
    breaks: "a worker's role may not end re-embedding",
    file: SQL + "000004-roles.sql",
    find: "wait_reason, wait_until, reembed'",
    replace: "wait_reason, wait_until'",
    tests: TEST,
  },
  {
    breaks: "a worker's role may not book usage",
    file: SQL + "000004-roles.sql",
    find: "('worker', 'usage', null, '{SELECT,INSERT,UPDATE,DELETE}')",
    replace: "('worker', 'usage', null, '{SELECT}')",
    tests: TEST,
  },
  {
    breaks: "a worker's role may write to the texts",
    file: SQL + "000004-roles.sql",
    find: "p.privilege = 'SELECT' or c.role = 'written'",
    replace: "p.privilege = 'SELECT' or c.role in ('written', 'content')",
    tests: TEST,
  },
  {
    breaks: "a swap does not look at dead rows under its lock",
    file: SQL + "000007-switch-model.sql",
    find: "if counted.dead > 0 and not force then",
    replace: "if counted.dead < 0 and not force then",
    tests: TEST,
  },
  {
    breaks: "a swap does not look at rows behind under its lock",
    file: SQL + "000007-switch-model.sql",
    find: "counted.behind - counted.dead > max_behind",
    replace: "counted.behind - counted.dead < 0",
    tests: TEST,
  },
  {
    breaks: "switch-model --abort does not cancel an index build",
    file: "src/admin/switch-model/abort.ts",
    find: "    await cancelIndexBuild(client, running.shadow);\n",
    replace: "",
    tests: TEST,
  },
];
