import type { Log } from "./settings.js";
import { splitRequests } from "./split-requests.js";
import type { Input, RequestLimits } from "./split-requests.js";

/** Learns how many texts the server takes in one request, where that is fewer than the settings allow. */
export interface RequestSize {
  /** Splits inputs into requests; at most one of them, in all calls together, tests a larger size. */
  plan(inputs: readonly Input[]): Input[][];
  /** Whether a request with this many texts has succeeded. */
  proven(texts: number): boolean;
  /** Whether a request with this many texts tests a larger size. Call `endTrial` after it. */
  isTrial(texts: number): boolean;
  endTrial(): void;
  succeeded(texts: number): void;
  /** A request failed, and its halves succeeded. */
  tooLarge(texts: number, tokens: number): void;
}

/**
 * The limit is between the most texts that succeeded and the fewest that were too many. Each test takes the mean, so
 * that a few requests find it. If as many texts have succeeded before, their length was the cause, not their number.
 */
export function createRequestSize({ requestTokens, requestInputs }: RequestLimits, log?: Log): RequestSize {
  let most = 0;
  let tooMany = requestInputs + 1;
  let maxTokens = requestTokens;
  let onTrial = false;
  let warned = false;

  const learned = (): boolean => tooMany <= requestInputs;
  const split = (inputs: readonly Input[], texts: number): Input[][] =>
    splitRequests(inputs, { requestTokens: maxTokens, requestInputs: texts });

  return {
    plan(inputs) {
      if (!learned()) return split(inputs, requestInputs);
      const texts = Math.floor((most + tooMany) / 2);
      if (onTrial || texts === most || inputs.length <= most) return split(inputs, most);
      const [trial = []] = split(inputs, texts);
      onTrial = trial.length > most;
      return [trial, ...split(inputs.slice(trial.length), most)];
    },
    proven: (texts) => texts <= most,
    isTrial: (texts) => learned() && texts > most,
    endTrial() {
      onTrial = false;
    },
    succeeded(texts) {
      most = Math.max(most, Math.min(texts, tooMany - 1));
    },
    tooLarge(texts, tokens) {
      if (texts <= most) maxTokens = Math.max(1, Math.min(maxTokens, Math.floor(tokens / 2)));
      else tooMany = Math.min(tooMany, texts);
      log?.[warned ? "debug" : "warn"](
        { texts, tokens },
        "the server fails on a request of this size, but not on its halves; embedd sends smaller ones",
      );
      warned = true;
    },
  };
}
