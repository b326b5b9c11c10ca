import { expect, onTestFinished } from "vitest";
import type { EmbeddError } from "#embedd/errors.js";
import { createApiProvider } from "#embedd/providers/openai/index.js";
import type { ApiProviderOptions } from "#embedd/providers/openai/index.js";
import type { Provider } from "#embedd/providers/provider.js";
import { startApiServer } from "../../../helpers/api-server.js";
import type { ApiServer, ApiServerOptions } from "../../../helpers/api-server.js";

export const KEY = "sk-test-3141592653589793";

/** A scripted server and a provider of its own, both gone when the test ends. */
export async function start(
  server: ApiServerOptions = {},
  options: Partial<ApiProviderOptions> = {},
): Promise<{ server: ApiServer; provider: Provider }> {
  const started = await startApiServer(server);
  onTestFinished(() => started.stop());
  const provider = await createApiProvider({
    provider: "openai",
    apiKey: KEY,
    baseUrl: started.url,
    ...options,
  });
  onTestFinished(() => provider.close());
  return { server: started, provider };
}

export const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => `text ${i}`);

/** What a call was refused with. */
export async function failure(call: Promise<unknown>): Promise<EmbeddError> {
  return call.then(
    () => expect.fail("it succeeded"),
    (error: unknown) => error as EmbeddError,
  );
}
