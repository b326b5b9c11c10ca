import { createServer } from "node:http";
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import type { RequestUsage } from "#embedd/providers/provider.js";
import { failure, KEY, start } from "./start.js";

const VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/** Sets these variables alone, until the test ends. */
function setProxies(given: Record<string, string>): void {
  const before = VARIABLES.map((name) => [name, process.env[name]] as const);
  onTestFinished(() => {
    for (const [name, value] of before) {
      Reflect.deleteProperty(process.env, name);
      if (value !== undefined) process.env[name] = value;
    }
  });
  for (const name of VARIABLES) Reflect.deleteProperty(process.env, name);
  Object.assign(process.env, given);
}

/** A proxy that tunnels everything to one server, or refuses. */
async function startProxy(target: string | null) {
  const seen: { url: string | undefined; headers: string }[] = [];
  const sockets = new Set<Socket>();
  const proxy = createServer();
  proxy.on("connection", (socket) => sockets.add(socket));
  proxy.on("connect", ({ url, headers }, socket) => {
    seen.push({ url, headers: JSON.stringify(headers) });
    if (target === null) {
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
      return;
    }
    const tunnel = connect(Number(new URL(target).port), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      tunnel.pipe(socket).pipe(tunnel);
    });
    sockets.add(tunnel);
    tunnel.on("error", () => socket.destroy());
    socket.on("error", () => tunnel.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise<void>((resolve) => proxy.close(() => resolve()));
  });
  const { port } = proxy.address() as AddressInfo;
  return { seen, port };
}

const FAR = "http://api.far.invalid/v1";

describe("a proxy of the environment", () => {
  it("is used, with its own password, and sees the server's name but not the key", async () => {
    const { server } = await start();
    const { seen, port } = await startProxy(server.url);
    setProxies({ HTTP_PROXY: `http://me:secret@127.0.0.1:${port}` });
    const { provider } = await start({}, { baseUrl: FAR });
    await provider.embed(["a"]);
    expect(server.requests).toHaveLength(1);
    expect(server.requests[0]?.headers).toMatchObject({
      authorization: `Bearer ${KEY}`,
      host: "api.far.invalid",
    });
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({ url: "api.far.invalid:80" });
    expect(seen[0]?.headers).toContain(Buffer.from("me:secret").toString("base64"));
    expect(seen[0]?.headers).not.toContain(KEY);
  });

  it("is not used for a host in NO_PROXY, nor for this machine", async () => {
    const { server } = await start();
    const { seen, port } = await startProxy(server.url);
    setProxies({ HTTP_PROXY: `http://127.0.0.1:${port}`, NO_PROXY: "far.invalid,.far.invalid" });
    const { provider: far } = await start({}, { baseUrl: FAR });
    await expect(far.embed(["a"])).rejects.toMatchObject({ code: "unreachable" });
    const { provider: near } = await start({}, { baseUrl: server.url });
    await near.embed(["a"]);
    expect(seen).toEqual([]);
  });

  it("that refuses costs nothing, and names its variables", async () => {
    const { seen, port } = await startProxy(null);
    setProxies({ HTTPS_PROXY: `http://127.0.0.1:${port}` });
    const { provider } = await start({}, { baseUrl: FAR.replace("http:", "https:") });
    const settled: RequestUsage[] = [];
    const settle = (spent: RequestUsage): void => void settled.push(spent);
    const error = await failure(
      provider.embed(["a"], { meter: { reserve: () => Promise.resolve({ settle }) } }),
    );
    expect(error).toMatchObject({ kind: "provider", code: "unreachable" });
    expect(error.message).toMatch(
      /connection to api\.far\.invalid failed.*the proxy refused it, check HTTPS_PROXY/,
    );
    expect(seen.length).toBeGreaterThan(0);
    for (const spent of settled) expect(spent).toEqual({ requests: 0, tokens: 0 });
  });

  it.each(["not a url", "http://"])("that is none is refused at start: %s", async (value) => {
    setProxies({ HTTPS_PROXY: `${value}#hunter2` });
    const error = await failure(start({}, { baseUrl: FAR }));
    expect(error).toMatchObject({ kind: "configuration", code: "settings" });
    expect(error.message).toContain("HTTPS_PROXY");
    expect(error.message).not.toContain("hunter2");
  });
});
