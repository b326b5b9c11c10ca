import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import type { RequestUsage } from "#embedd/providers/provider.js";
import { startApiServer } from "../../../helpers/api-server.js";
import { failure, start } from "./start.js";

function recordingMeter() {
  const settled: RequestUsage[] = [];
  const settle = (spent: RequestUsage): void => void settled.push(spent);
  return { settled, meter: { reserve: () => Promise.resolve({ settle }) } };
}

/** A server that ends every connection before it has read a request. */
async function startHangUp(): Promise<string> {
  const server = createServer((socket) => socket.on("error", () => undefined).destroy());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())));
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

describe("nothing counts as spent before a request was written:", () => {
  it.each<[string, () => Promise<string>]>([
    [
      "the server does not speak TLS",
      async () => {
        const server = await startApiServer();
        onTestFinished(() => server.stop());
        return server.url.replace("http:", "https:");
      },
    ],
    ["the connection ends within the TLS handshake", startHangUp],
    [
      "the connection is refused",
      async () => {
        const server = await startApiServer();
        await server.stop();
        return server.url;
      },
    ],
    ["the port is one that no client may use", () => Promise.resolve("http://127.0.0.1:1/v1")],
    ["the host's name does not exist", () => Promise.resolve("http://no-such-host.invalid/v1")],
  ])("%s", async (_, url) => {
    const { settled, meter } = recordingMeter();
    const { provider } = await start({}, { baseUrl: await url() });
    await expect(provider.embed(["hello"], { meter })).rejects.toMatchObject({ code: "unreachable" });
    expect(settled.length).toBeGreaterThan(0);
    for (const spent of settled) expect(spent).toEqual({ requests: 0, tokens: 0 });
  });

  it("but a request whose answer never came does", async () => {
    const { settled, meter } = recordingMeter();
    const { provider } = await start({
      script: ({ texts }) => (texts[0] === "hello" ? { reset: "before" } : undefined),
    });
    await failure(provider.embed(["hello"], { meter }));
    expect(settled[0]).toMatchObject({ requests: 1, tokens: 1 });
  });
});
