import { it } from "vitest";
import { expectGenerated } from "../docs/markers.js";
import { renderSqlObjects } from "../docs/sql-objects.js";
import { useDatabase } from "../helpers/database.js";

const db = useDatabase();

it("docs/reference.md has the views, tables and functions of the schema", async () => {
  await expectGenerated({ "sql objects": await renderSqlObjects((sql) => db.query(sql)) });
});
