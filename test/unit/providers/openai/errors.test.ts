import { APIError } from "openai";
import { expect, it } from "vitest";
import { classify } from "#embedd/providers/openai/errors.js";
import { resolveSettings } from "#embedd/providers/openai/settings.js";

const settings = resolveSettings({ provider: "openai", apiKey: "a-key", baseUrl: "https://host.test/v1" });

const classified = (status: number, error: object, headers: Record<string, string>) =>
  classify(APIError.generate(status, { error }, undefined, new Headers(headers)), settings, {
    timedOut: false,
    sent: true,
  });

it.each<
  [
    status: number,
    error: object,
    headers: Record<string, string>,
    code: string,
    meaning: string,
    more?: object,
  ]
>([
  [301, {}, { location: "https://other.test" }, "redirect", "stop"],
  [400, {}, {}, "refused_input", "unclear"],
  [400, { param: "input" }, {}, "refused_input", "input"],
  [400, { code: "content_filter" }, {}, "refused_input", "input"],
  [400, { param: "encoding_format" }, {}, "refused_input", "base64"],
  [400, { param: "dimensions" }, {}, "bad_request", "stop"],
  [401, {}, {}, "unauthorized", "stop"],
  [402, {}, {}, "quota", "stop"],
  [403, {}, {}, "forbidden", "stop"],
  [403, {}, { "retry-after": "7" }, "rate_limited", "retry", { overload: true, retryAfterMs: 7_000 }],
  [404, {}, {}, "not_found", "stop"],
  [408, {}, {}, "unavailable", "retry"],
  [409, {}, {}, "unavailable", "retry"],
  [410, {}, {}, "not_found", "stop"],
  [413, {}, {}, "refused_input", "input"],
  [418, {}, {}, "bad_request", "stop"],
  [422, {}, {}, "refused_input", "unclear"],
  [424, {}, {}, "unavailable", "doubtful"],
  [425, {}, {}, "unavailable", "retry"],
  [429, {}, {}, "rate_limited", "retry", { overload: true }],
  [429, {}, { "retry-after": "86400" }, "quota", "stop", { retryAfterMs: 600_000 }],
  [429, {}, { "x-ratelimit-type": "UserByModelByDay", "retry-after": "9" }, "quota", "stop"],
  [429, { code: "billing_not_active" }, {}, "quota", "stop"],
  [500, {}, {}, "unavailable", "doubtful", { overload: false }],
  [503, {}, {}, "unavailable", "doubtful", { overload: false }],
  [503, {}, { "retry-after": "7" }, "unavailable", "retry", { overload: true, retryAfterMs: 7_000 }],
])("%i %j with the headers %j is %s (%s)", (status, error, headers, code, meaning, more = {}) => {
  const { overload = false, retryAfterMs } = more as { overload?: boolean; retryAfterMs?: number };
  const failure = classified(status, error, headers);
  expect(failure).toMatchObject({ error: { code }, meaning, overload, status });
  if (retryAfterMs !== undefined) expect(failure.error.retryAfterMs).toBe(retryAfterMs);
});

it("an error repeats a code and a request id only if they are such", () => {
  const { error } = classified(404, { code: "model_not_found" }, { "x-request-id": "req_0123456789abcdef" });
  expect(error.message).toContain("host.test answered 404 model_not_found (request req_0123456789abcdef):");
  const text = "a most private text";
  const unknown = classified(404, { code: text, type: text }, { "x-request-id": text }).error.message;
  expect(unknown).toContain("host.test answered 404:");
  expect(unknown).not.toContain(text);
});
