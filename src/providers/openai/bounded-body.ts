import { constants } from "node:buffer";
import { Response } from "undici";
import { MOST_DIMENSIONS, WrongAnswer } from "./answer.js";
import { TOO_LARGE, createJsonBounds } from "./json-bounds.js";
import type { JsonLimits } from "./json-bounds.js";

/** What an answer may hold. */
export interface AnswerLimits extends JsonLimits {
  /** After decompression. */
  bytes: number;
}

/** A component in decimal, with sign, exponent and white space; in base64 it takes 6. */
const COMPONENT_BYTES = 32;
/** What surrounds the vectors. Few texts may bring other dimensions than expected, so that the error can name them. */
const FRAME_BYTES = 1_000_000;
const FRAME_ELEMENTS = 65_536;
const FRAME_NODES = 4_096;
/** What surrounds one vector: its object, index and names. */
const ITEM_BYTES = 1_024;
const ITEM_NODES = 32;

/** An error says what is wrong in far less, and nothing of it is kept. */
const ERROR_BYTES = 65_536;
const ERROR_LIMITS: AnswerLimits = { bytes: ERROR_BYTES, elements: ERROR_BYTES, nodes: ERROR_BYTES };

/** What the answer to this many inputs can need. @param dimensions null: any */
export function answerLimits(inputs: number, dimensions: number | null): AnswerLimits {
  const components = inputs * (dimensions ?? MOST_DIMENSIONS);
  const bytes = FRAME_BYTES + inputs * ITEM_BYTES + components * COMPONENT_BYTES;
  return {
    bytes: Math.min(bytes, constants.MAX_STRING_LENGTH),
    elements: FRAME_ELEMENTS + components + inputs * ITEM_NODES,
    nodes: FRAME_NODES + inputs * ITEM_NODES,
  };
}

/**
 * Cuts off a body that is larger than its request can need, while it is decompressed: nobody has to hold it in memory.
 * @returns the response; its body fails with `WrongAnswer` beyond the limits. An error's body ends there instead
 */
export function boundBody(response: Response, limits: AnswerLimits): Response {
  if (response.body === null) return response;
  const { bytes: maxBytes, ...json } = response.ok ? limits : ERROR_LIMITS;
  const refusal = createJsonBounds(json);
  let bytes = 0;
  const bounded = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.length;
      const refused = bytes > maxBytes ? TOO_LARGE : refusal(chunk);
      if (refused === null) controller.enqueue(chunk);
      else if (response.ok) controller.error(new WrongAnswer(`${refused}; check EMBEDD_BASE_URL`));
      else controller.terminate();
    },
  });
  return new Response((response.body as ReadableStream<Uint8Array>).pipeThrough(bounded), response);
}
