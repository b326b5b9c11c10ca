import type { Pool } from "pg";
import { EmbeddError, messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import type { Provider, UsageMeter } from "../providers/provider.js";
import { bookUsage, reserveTokens } from "../sql/usage.js";
import type { DailyLimits, Spent } from "../sql/usage.js";

/** Books are written this often, and at the end. */
const BOOK_MS = 1_000;

/** What a worker's provider spends, by pipeline. */
export interface Usage {
  meter(pipelineId: number): UsageMeter;
  /** Writes what is not yet in the books. */
  stop(): Promise<void>;
}

export function createUsage(pool: Pool, provider: Provider, limits: DailyLimits, log: Logger): Usage {
  const usdPerToken = (provider.usdPerMillionTokens ?? 0) / 1_000_000;
  const limited = limits.tokens !== null || limits.usd !== null;
  let unbooked = new Map<number, Spent>();

  async function book(): Promise<void> {
    if (unbooked.size === 0) return;
    const entries = [...unbooked.values()];
    unbooked = new Map();
    try {
      await bookUsage(pool, entries);
    } catch (error) {
      for (const entry of entries) note(entry);
      log.warn({ cause: messageOf(error) }, "could not write the usage, trying again");
    }
  }

  function note(spent: Omit<Spent, "model">): void {
    const entry = unbooked.get(spent.pipelineId) ?? {
      pipelineId: spent.pipelineId,
      model: provider.model,
      requests: 0,
      tokens: 0,
      reservedTokens: 0,
      usd: 0,
    };
    entry.requests += spent.requests;
    entry.tokens += spent.tokens;
    entry.reservedTokens += spent.reservedTokens;
    entry.usd += spent.usd;
    unbooked.set(spent.pipelineId, entry);
  }

  let booking: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    booking = booking.then(book);
  }, BOOK_MS).unref();
  return {
    meter: (pipelineId) => ({
      async reserve(tokens) {
        if (!limited) return;
        const request = { pipelineId, model: provider.model, tokens, usd: tokens * usdPerToken };
        const msLeft = await reserveTokens(pool, request, limits);
        if (msLeft !== null) throw limitReached(limits, msLeft);
      },
      settle(reservedTokens, { requests, tokens }) {
        const reserved = limited ? reservedTokens : 0;
        const usd = (tokens - reserved) * usdPerToken;
        note({ pipelineId, requests, tokens, reservedTokens: reserved, usd });
      },
    }),
    async stop() {
      clearInterval(timer);
      await booking;
      await book();
    },
  };
}

export const DAILY_LIMIT = "daily_limit";

function limitReached({ tokens, usd }: DailyLimits, msLeft: number): EmbeddError {
  const limits = [tokens === null ? [] : `${tokens} tokens`, usd === null ? [] : `$${usd}`].flat();
  return new EmbeddError(`the daily limit of ${limits.join(" or ")} is reached`, {
    kind: "provider",
    code: DAILY_LIMIT,
    retryAfterMs: msLeft,
  });
}
