import type { Pool } from "pg";
import type { ErrorCode } from "../../error-codes.js";
import { EmbeddError, messageOf } from "../../errors.js";
import type { Logger } from "../../logger.js";
import type { Provider, UsageMeter } from "../../providers/provider.js";
import { bookUsage, reserveTokens } from "./usage.sql.js";
import type { DailyLimits, Spent } from "./usage.sql.js";

/** Usage is written to embedd.usage this often, and at the end. */
const BOOK_MS = 1_000;

/** Reserved tokens may be released as soon as a request ends. */
const OPEN_MS = 1_000;

/** What a worker's provider spends, per pipeline. */
export interface Usage {
  meter(pipelineId: number): UsageMeter;
  /** Writes what is not booked yet. */
  stop(): Promise<void>;
}

export function createUsage(pool: Pool, provider: Provider, limits: DailyLimits, log: Logger): Usage {
  const usdPerToken = (provider.usdPerMillionTokens ?? 0) / 1_000_000;
  const local = provider.runsHere === true;
  // A local model spends nothing that a limit could be about, so its reservations never ask the database.
  const limited = !local && (limits.tokens !== null || limits.usd !== null);
  let unbooked = new Map<string, Spent>();
  /** Requests in flight. */
  let open = 0;

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

  function note(spent: Omit<Spent, "model" | "local">): void {
    const key = `${spent.pipelineId} ${spent.day ?? ""}`;
    const entry = unbooked.get(key) ?? {
      pipelineId: spent.pipelineId,
      day: spent.day,
      model: provider.model,
      local,
      requests: 0,
      tokens: 0,
      texts: 0,
      cutTexts: 0,
      reservedTokens: 0,
      usd: 0,
    };
    entry.requests += spent.requests;
    entry.tokens += spent.tokens;
    entry.texts += spent.texts;
    entry.cutTexts += spent.cutTexts;
    entry.reservedTokens += spent.reservedTokens;
    entry.usd += spent.usd;
    unbooked.set(key, entry);
  }

  /** @returns the day that the tokens are reserved on */
  async function reserve(pipelineId: number, tokens: number): Promise<string> {
    const request = { pipelineId, model: provider.model, tokens, usd: tokens * usdPerToken };
    const first = await reserveTokens(pool, request, limits);
    if (first.reserved) return first.day;
    // Booking releases the tokens that requests reserved and did not spend.
    booking = booking.then(book);
    await booking;
    const { reserved, day, msLeft } = await reserveTokens(pool, request, limits);
    if (!reserved) throw limitReached(limits, open > 0 ? OPEN_MS : msLeft, open > 0);
    return day;
  }

  let booking: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    booking = booking.then(book);
  }, BOOK_MS).unref();
  return {
    meter: (pipelineId) => ({
      async reserve(tokens) {
        const day = limited ? await reserve(pipelineId, tokens) : null;
        const reservedTokens = limited ? tokens : 0;
        open++;
        return {
          settle({ requests, tokens: spent, texts = 0, cutTexts = 0 }) {
            open--;
            const usd = (spent - reservedTokens) * usdPerToken;
            note({ pipelineId, day, requests, tokens: spent, texts, cutTexts, reservedTokens, usd });
          },
        };
      },
    }),
    async stop() {
      clearInterval(timer);
      await booking;
      await book();
    },
  };
}

export const DAILY_LIMIT = "daily_limit" satisfies ErrorCode;

function limitReached({ tokens, usd }: DailyLimits, retryAfterMs: number, byReserved: boolean): EmbeddError {
  const limits = [tokens === null ? [] : `${tokens} tokens`, usd === null ? [] : `$${usd}`].flat();
  const reached = `the daily limit of ${limits.join(" or ")} is reached`;
  const message = byReserved ? `${reached} if the requests in flight use all their reserved tokens` : reached;
  const code: ErrorCode = byReserved ? "daily_limit_reserved" : DAILY_LIMIT;
  return new EmbeddError(message, { kind: "provider", code, retryAfterMs });
}
