import { EmbeddError } from "../../errors.js";
import type { TextResult } from "../failed-texts.js";
import type { EmbeddingRequest, Requester } from "./request.js";
import type { RequestSize } from "./request-size.js";
import { halveText } from "./split-requests.js";
import type { Input } from "./split-requests.js";
import type { Suspects } from "./suspects.js";

/** What all requests of a call have in common. */
export type CallOptions = Pick<EmbeddingRequest, "dimensions" | "signal" | "meter">;

/** Sends the inputs of a call in as few requests as the server takes. */
export interface InputSender {
  /**
   * Halves a request on which the server fails until an input stands alone that it cannot embed: at most
   * 2·k·log2(n) + 2 requests for k such inputs among n that it refuses, twice as many where it answers with a fault.
   * A text that the server finds too long is halved until the server takes it.
   * @param onResult called for every input with its vector, or with why it alone has none
   * @throws every error that is not about one input, after all requests have ended
   */
  send(
    inputs: readonly Input[],
    options: CallOptions,
    onResult: (input: Input, result: TextResult) => void,
  ): Promise<void>;
}

/** @param onTooLong called for each text that is cut because the server finds it too long; null: none is cut */
export function createInputSender(
  requester: Requester,
  size: RequestSize,
  suspects: Suspects,
  onTooLong: (() => void) | null,
): InputSender {
  /** While the most texts per request are unknown, one call finds them out, and the others wait. */
  let learning: Promise<unknown> = Promise.resolve();

  return {
    async send(inputs, options, onResult) {
      const failures: unknown[] = [];

      /** @returns whether one request was enough */
      async function sendAll(part: readonly Input[], suspected: boolean, learns: boolean): Promise<boolean> {
        const done = await Promise.all(size.plan(part).map((request) => sendOne(request, suspected, learns)));
        return done.length === 1 && done[0] === true;
      }

      async function sendOne(
        request: readonly Input[],
        suspected: boolean,
        learns: boolean,
        mayEnd = false,
      ): Promise<boolean> {
        const trial = size.isTrial(request.length);
        try {
          const vectors = await requester.send({
            ...options,
            texts: request.map(({ text }) => text),
            tokens: tokensOf(request),
            cutTexts: request.filter(({ cut }) => cut).length,
            suspected: suspected || trial,
            ...(mayEnd && { mayEnd }),
          });
          size.succeeded(request.length);
          request.forEach((input, i) => {
            const result = vectors[i];
            if (result !== undefined) onResult(input, result);
          });
          return true;
        } catch (error) {
          const [input] = request;
          if (!(error instanceof EmbeddError) || error.kind !== "row" || input === undefined)
            failures.push(error);
          else if (request.length === 1) {
            const shorter = error.code === "too_long" && onTooLong !== null ? halveText(input) : null;
            if (shorter === null) onResult(input, error);
            else {
              if (input.halvings === undefined) onTooLong?.();
              await sendAll([shorter], true, learns);
            }
          } else if (learns || trial || size.proven(request.length)) await halve(request, learns);
          else await learn(request);
          return false;
        } finally {
          if (trial) size.endTrial();
        }
      }

      async function halve(request: readonly Input[], learns: boolean): Promise<void> {
        const half = Math.ceil(request.length / 2);
        // One after the other, so that what the first one shows about the size helps the second one.
        const first = await sendAll(request.slice(0, half), true, learns);
        const second = await sendAll(request.slice(half), true, learns);
        if (first && second) size.tooLarge(request.length, tokensOf(request));
      }

      /** After another call's turn, the size is known in most cases. */
      async function learn(request: readonly Input[]): Promise<void> {
        const turn = learning.then(async () => {
          if (size.isTrial(request.length)) await sendAll(request, true, true);
          else await halve(request, true);
        });
        learning = turn;
        await turn;
      }

      const { clean, suspected, judged } = suspects.split(inputs);
      for (const { input, error } of judged) onResult(input, error);
      await sendAll(clean, false, false);
      // One after the other, and none after the server went away, so that no text is suspected for another's sake.
      for (const request of suspected) {
        if (failures.length > 0) break;
        await sendOne(request, true, false, true);
      }
      if (failures.length > 0) throw failures[0];
      suspects.cleared(inputs.map(({ text }) => text));
    },
  };
}

const tokensOf = (inputs: readonly Input[]): number => inputs.reduce((sum, { tokens }) => sum + tokens, 0);
