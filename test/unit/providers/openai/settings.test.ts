import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { loadConfig } from "#embedd/config.js";
import { createApiProvider } from "#embedd/providers/openai/index.js";
import { resolveSettings } from "#embedd/providers/openai/settings.js";
import { Secret } from "#embedd/secret.js";
import { KEY, start } from "./start.js";

const resolve = (env: Record<string, string>, flags = {}) => {
  const config = loadConfig(flags, env);
  if (config.provider === "local") throw new Error("not an API");
  return resolveSettings({ ...config, provider: config.provider });
};

describe("one variable and a key", () => {
  it.each([
    ["openai", { OPENAI_API_KEY: KEY }, "https://api.openai.com/v1", "text-embedding-3-small", 300_000, 0.02],
    [
      "github",
      { GITHUB_TOKEN: KEY },
      "https://models.github.ai/inference",
      "openai/text-embedding-3-small",
      64_000,
      null,
    ],
    [
      "azure",
      { AZURE_OPENAI_API_KEY: KEY, EMBEDD_BASE_URL: "https://mine.openai.azure.com/" },
      "https://mine.openai.azure.com/openai/v1",
      "text-embedding-3-small",
      300_000,
      0.02,
    ],
  ])(
    "choose %s, and the rows name the same model",
    (provider, env, baseUrl, wireModel, requestTokens, usd) => {
      const settings = resolve({ EMBEDD_PROVIDER: provider, ...(env as Record<string, string>) });
      expect(settings).toMatchObject({
        baseUrl,
        wireModel,
        requestTokens,
        requestInputs: 2_048,
        model: "text-embedding-3-small",
        dimensions: 1_536,
        shortens: true,
        inputTokens: 8_191,
        usdPerMillionTokens: usd,
      });
      expect(settings.key.current()).toBe(KEY);
    },
  );

  it("is enough, without the key, for your own server", () => {
    expect(resolve({ EMBEDD_PROVIDER: "ollama" })).toMatchObject({
      baseUrl: "http://127.0.0.1:11434/v1",
      model: "nomic-embed-text",
      dimensions: 768,
      usdPerMillionTokens: 0,
    });
    expect(resolve({ EMBEDD_PROVIDER: "tei", EMBEDD_MODEL: "BAAI/bge-m3" })).toMatchObject({
      model: "BAAI/bge-m3",
      dimensions: null,
      requestInputs: 32,
    });
  });
});

describe("settings", () => {
  it.each([
    [{ EMBEDD_PROVIDER: "openai" }, "api_key", /OPENAI_API_KEY.*EMBEDD_API_KEY_FILE.*platform\.openai\.com/],
    [{ EMBEDD_PROVIDER: "github" }, "api_key", /GITHUB_TOKEN.*models: read/],
    [{ EMBEDD_PROVIDER: "github", OPENAI_API_KEY: KEY }, "api_key", /GITHUB_TOKEN/],
    [{ EMBEDD_PROVIDER: "azure", AZURE_OPENAI_API_KEY: KEY }, "base_url", /EMBEDD_BASE_URL/],
    [{ EMBEDD_PROVIDER: "tei" }, "model", /EMBEDD_MODEL/],
    [
      { EMBEDD_PROVIDER: "openai", EMBEDD_API_KEY_FILE: "/nowhere/key" },
      "api_key",
      /\/nowhere\/key \(ENOENT\)/,
    ],
    [{ EMBEDD_PROVIDER: "openai", OPENAI_API_KEY: KEY, EMBEDD_DIMENSIONS: "2000" }, "dimensions", /1536/],
  ])("%j are refused by name", (env, code, message) => {
    expect(() => resolve(env as Record<string, string>)).toThrow(
      expect.objectContaining({
        kind: "configuration",
        code,
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it("are refused all together, and their values are never repeated", () => {
    const env = {
      EMBEDD_PROVIDER: "openai",
      EMBEDD_BASE_URL: "ftp://me:hunter2@host/v1",
      EMBEDD_HEADERS: `{"authorization": "${KEY}"`,
      EMBEDD_REQUEST_INPUTS: "4096",
      EMBEDD_LONG_TEXT: "shorten",
      EMBEDD_API_KEY: KEY,
      EMBEDD_API_KEY_FILE: "/run/secrets/key",
    };
    let message = "";
    try {
      loadConfig({}, env);
    } catch (error) {
      message = String(error);
    }
    for (const name of ["BASE_URL", "HEADERS", "REQUEST_INPUTS", "LONG_TEXT", "API_KEY"]) {
      expect(message).toContain(`EMBEDD_${name}:`);
    }
    expect(message).not.toContain("hunter2");
    expect(message).not.toContain(KEY);
  });

  it("use the first key of three, and prefer a file to the provider's own variable", () => {
    const both = { EMBEDD_PROVIDER: "openai", EMBEDD_API_KEY: "first", OPENAI_API_KEY: "second" };
    expect(resolve(both).key).toMatchObject({ variable: "EMBEDD_API_KEY" });
    expect(loadConfig({}, { ...both, EMBEDD_API_KEY: "", EMBEDD_API_KEY_FILE: "/x" }).apiKey).toBeUndefined();
  });

  it("show no secrets when they are dumped", () => {
    const config = loadConfig(
      {},
      {
        EMBEDD_PROVIDER: "openai",
        OPENAI_API_KEY: KEY,
        EMBEDD_HEADERS: `{"x-key": "${KEY}"}`,
        DATABASE_URL: `postgres://me:${KEY}@localhost/app`,
      },
    );
    const dumped = [
      inspect(config, { depth: 9, showHidden: true }),
      JSON.stringify(config),
      String(config.apiKey),
    ];
    expect(dumped.join()).not.toContain(KEY);
    expect(dumped.join()).toContain("secret of OPENAI_API_KEY");
    expect(config.apiKey?.reveal()).toBe(KEY);
    expect(inspect(new Secret({ a: KEY }, "x"), { showHidden: true })).not.toContain(KEY);
  });
});

it("fewer dimensions are refused for a model that cannot shorten its vectors", () => {
  const asked = (model: string) =>
    resolveSettings({ provider: "openai", apiKey: "a-key", model, dimensions: 512 }).askedDimensions;
  expect(asked("text-embedding-3-small")).toBe(512);
  expect(() => asked("text-embedding-ada-002")).toThrow("has 1536 dimensions");
});

describe("a user and password in the address", () => {
  it("are sent as basic authentication, and shown nowhere", async () => {
    const { provider: none, server } = await start();
    await none.close();
    const url = new URL(server.url);
    url.username = "me";
    url.password = "p@ss:1";
    const config = loadConfig({}, { EMBEDD_PROVIDER: "ollama", EMBEDD_BASE_URL: url.toString() });
    expect(inspect(config, { depth: 9, showHidden: true }) + JSON.stringify(config)).not.toMatch(
      /p(@|%40)ss/,
    );
    const provider = await createApiProvider({
      ...config,
      provider: "ollama",
      model: "text-embedding-3-small",
    });
    await provider.embed(["a"]);
    await provider.close();
    const basic = `Basic ${Buffer.from("me:p@ss:1").toString("base64")}`;
    expect(server.requests).toMatchObject([{ url: "/v1/embeddings", headers: { authorization: basic } }]);
  });

  it("and a key are refused, since both need the same header; Azure's key has its own", () => {
    const env = { EMBEDD_BASE_URL: "https://me:hunter2@host/v1", OPENAI_API_KEY: KEY };
    expect(() => resolve({ ...env, EMBEDD_PROVIDER: "openai" })).toThrow(
      expect.objectContaining({
        kind: "configuration",
        code: "base_url",
        message: expect.not.stringContaining("hunter2") as string,
      }),
    );
    const azure = resolve({ ...env, EMBEDD_PROVIDER: "azure", AZURE_OPENAI_API_KEY: KEY });
    expect(azure.key.current()).toBe(KEY);
    expect(azure.headers.reveal()).toHaveProperty("authorization");
  });
});

describe("a request", () => {
  it("has the key, the headers, and the host's name of the model", async () => {
    const { provider, server } = await start(
      {},
      { provider: "github", model: "text-embedding-3-small", headers: { "x-team": "search" } },
    );
    await provider.embed(["a"]);
    expect(provider.model).toBe("text-embedding-3-small");
    expect(server.requests[0]).toMatchObject({
      model: "openai/text-embedding-3-small",
      headers: { authorization: `Bearer ${KEY}`, "x-team": "search" },
    });
  });

  it("names the deployment, while the row names the model", async () => {
    const { provider, server } = await start({}, { provider: "azure", deployment: "prod-embeddings" });
    await provider.embed(["a"], { dimensions: 384 });
    expect(server.requests[0]).toMatchObject({ model: "prod-embeddings", dimensions: 384 });
    expect(provider.model).toBe("text-embedding-3-small");
    expect(loadConfig({}, { EMBEDD_DEPLOYMENT: "prod-embeddings" }).deployment).toBe("prod-embeddings");
  });

  it("has Azure's header, and an older address's api-version", async () => {
    const { provider, server } = await start({}, { provider: "azure" });
    await provider.embed(["a"]);
    expect(server.requests[0]?.headers).toMatchObject({ "api-key": KEY });
    expect(server.requests[0]?.headers.authorization).toBeUndefined();
    const old = await start(
      {},
      { provider: "azure", baseUrl: `${server.url}/openai/deployments/mine?api-version=2024-10-21` },
    );
    await old.provider.embed(["a"]);
    expect(server.requests[1]?.url).toBe("/v1/openai/deployments/mine/embeddings?api-version=2024-10-21");
  });

  it.each(["sk-abc…def", "sk-abc\ndef", "sk abc"])(
    "is never sent with a key that no header can carry: %j",
    (apiKey) => {
      const resolve = (): unknown => resolveSettings({ provider: "openai", apiKey });
      expect(resolve).toThrow(/character that is never part of a key/);
      expect(resolve).not.toThrow(apiKey);
    },
  );

  it("has no key if none is set, and nothing from OpenAI's own variables", async () => {
    for (const [name, value] of Object.entries({
      OPENAI_API_KEY: KEY,
      OPENAI_ORG_ID: "org-1",
      OPENAI_PROJECT_ID: "p-1",
      OPENAI_BASE_URL: "http://127.0.0.1:1",
      OPENAI_CUSTOM_HEADERS: `x-custom: ${KEY}`,
    })) {
      process.env[name] = value;
    }
    try {
      const { provider, server } = await start({}, { provider: "ollama", apiKey: undefined });
      await expect(provider.embed(["a"], { dimensions: 768 })).rejects.toMatchObject({
        code: "wrong_dimensions",
      });
      const sent = JSON.stringify(server.requests[0]?.headers);
      expect(sent).not.toContain(KEY);
      expect(sent).not.toMatch(/openai-organization|openai-project/i);
    } finally {
      for (const name of [
        "OPENAI_API_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_BASE_URL",
        "OPENAI_CUSTOM_HEADERS",
      ]) {
        Reflect.deleteProperty(process.env, name);
      }
    }
  });

  it("uses kept-alive connections", async () => {
    const { provider, server } = await start({ latencyMs: 20 }, { requestInputs: 1, concurrency: 6 });
    await provider.embed(Array.from({ length: 60 }, (_, i) => `text ${i}`));
    expect(server.maxInFlight).toBe(6);
    expect(server.connections, "for 60 requests").toBeLessThanOrEqual(18);
  });
});
