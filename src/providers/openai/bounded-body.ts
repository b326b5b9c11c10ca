import { Response } from "undici";
import { WrongAnswer } from "./answer.js";

/** What an answer may hold. */
export interface AnswerLimits {
  /** Bytes after decompression. */
  bytes: number;
  /** Values and objects together, which decide how much memory the parsed answer takes. */
  values: number;
}

/** pgvector's longest vector: what an answer may bring where the dimensions are not known. */
const MOST_DIMENSIONS = 16_000;
/** A model with other dimensions than expected is told by them, not by the size of its answer. */
const USUAL_DIMENSIONS = 4_096;
/** A component in decimal, with sign, exponent and white space. */
const COMPONENT_BYTES = 32;
/** What surrounds the vectors. */
const FRAME_BYTES = 1_000_000;
const FRAME_VALUES = 1_000;
/** What surrounds one vector: its object, index and names. */
const ITEM_VALUES = 16;

/** An error says what is wrong in far less, and nothing of it is kept. */
const ERROR_LIMITS: AnswerLimits = { bytes: 65_536, values: FRAME_VALUES };

/** What the answer to this many inputs can need. @param dimensions null: any */
export function answerLimits(inputs: number, dimensions: number | null): AnswerLimits {
  const components = inputs * Math.max(dimensions ?? MOST_DIMENSIONS, USUAL_DIMENSIONS);
  return {
    bytes: FRAME_BYTES + components * COMPONENT_BYTES,
    values: FRAME_VALUES + components + inputs * ITEM_VALUES,
  };
}

const COMMA = 0x2c;
const BRACKET = 0x5b;
const BRACE = 0x7b;

/**
 * Cuts off a body that is larger than its request can need, while it is decompressed: nobody has to hold it in memory.
 * Each value in JSON follows a comma or opens something, so counting these bounds what the parser builds, at any depth.
 * @returns the response; its body fails with `WrongAnswer` beyond the limits. An error's body ends there instead
 */
export function boundBody(response: Response, limits: AnswerLimits): Response {
  if (response.body === null) return response;
  const { bytes: maxBytes, values: maxValues } = response.ok ? limits : ERROR_LIMITS;
  let bytes = 0;
  let values = 0;
  const bounded = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.length;
      for (let i = 0; i < chunk.length; i++) {
        const byte = chunk[i];
        if (byte === COMMA || byte === BRACKET || byte === BRACE) values++;
      }
      if (bytes <= maxBytes && values <= maxValues) controller.enqueue(chunk);
      else if (response.ok) controller.error(new WrongAnswer("an answer larger than the request can need"));
      else controller.terminate();
    },
  });
  return new Response((response.body as ReadableStream<Uint8Array>).pipeThrough(bounded), response);
}
