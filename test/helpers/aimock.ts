import { LLMock } from "@copilotkit/aimock";

/** A server of OpenAI's API that this project did not write, on loopback; its vectors follow from the text. */
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
