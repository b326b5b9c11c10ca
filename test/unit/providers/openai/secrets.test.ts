import { describe, expect, it, onTestFinished } from "vitest";
import { startApiServer } from "../../../helpers/api-server.js";
import { failure, KEY, numbered, start } from "./start.js";

describe("a redirect", () => {
  it.each([301, 302, 303, 307, 308])(
    "with %i is refused by the target's name, and nothing goes there",
    async (status) => {
      const other = await startApiServer();
      onTestFinished(() => other.stop());
      const target = `${other.url}/embeddings?${KEY}`;
      const { provider, server } = await start(
        { script: () => ({ status, headers: { location: target } }) },
        { provider: "azure", headers: { "x-second-key": KEY } },
      );
      const error = await failure(provider.embed(numbered(3)));
      expect(error).toMatchObject({ kind: "configuration", code: "redirect", retryAfterMs: 60_000 });
      expect(error.message).toContain(`redirects to ${new URL(other.url).origin}, `);
      expect(error.message).not.toContain(KEY);
      expect(other.connections).toBe(0);
      await failure(provider.embed(["a"]));
      expect(server.requests, "and asked once a minute").toHaveLength(1);
    },
  );

  it.each([{}, { location: "https://" }])("to nowhere is refused: %j", async (headers) => {
    const { provider } = await start({ script: () => ({ status: 302, headers }) });
    await expect(provider.embed(["a"])).rejects.toMatchObject({ code: "redirect" });
  });
});

describe("a request", () => {
  it("says nothing about the machine that sends it", async () => {
    const { provider, server } = await start({}, { headers: { "x-team": "search" } });
    await provider.embed(["a"]);
    expect(Object.keys(server.requests[0]?.headers ?? {}).sort()).toEqual([
      "accept",
      "accept-encoding",
      "accept-language",
      "authorization",
      "connection",
      "content-length",
      "content-type",
      "host",
      "sec-fetch-mode",
      "user-agent",
      "x-team",
    ]);
    expect(server.requests[0]?.headers["user-agent"]).toBe("embedd");
  });
});
