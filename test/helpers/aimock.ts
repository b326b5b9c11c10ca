import { LLMock } from "@copilotkit/aimock";

/** Starts a third-party server of OpenAI's API on loopback; its vectors are derived from the text. */
export async function startAimock(): Promise<{ url: string; stop: () => Promise<void> }> {
  const server = new LLMock({ port: 0, logLevel: "silent" });
  await server.start();
  return {
    url: `${server.url}/v1`,
    stop: async () => {
      await server.stop();
    },
  };
}
