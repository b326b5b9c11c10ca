import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import { createBreaker } from "#embedd/providers/openai/breaker.js";

describe("the breaker", () => {
  const error = new EmbeddError("it is down", { kind: "provider", code: "unavailable", hint: "wait" });

  it("opens after ten failures in a row, lets one request through after a while, and closes on success", () => {
    let now = 0;
    const breaker = createBreaker(
      () => now,
      () => 1,
    );
    for (let i = 0; i < 9; i++) breaker.failed(error);
    breaker.succeeded();
    for (let i = 0; i < 10; i++) {
      breaker.enter();
      breaker.failed(error);
    }
    expect(() => breaker.enter()).toThrow("it is down");
    now = 1_499;
    expect(() => breaker.enter()).toThrow(
      expect.objectContaining({ retryAfterMs: 1, code: "unavailable", hint: "wait" }),
    );
    now = 1_500;
    breaker.enter();
    expect(() => breaker.enter(), "only one").toThrow("it is down");
    breaker.failed(error);
    now = 1_500 + 2_499;
    expect(() => breaker.enter(), "for longer the second time").toThrow("it is down");
    now = 1_500 + 2_500;
    breaker.enter();
    breaker.abandoned();
    breaker.enter();
    breaker.succeeded();
    breaker.enter();
    breaker.enter();
  });

  it("says when it is nearly open, and when the next request is the probe", () => {
    let now = 0;
    const breaker = createBreaker(() => now);
    for (let i = 0; i < 7; i++) breaker.failed(error);
    expect(breaker.nearlyOpen).toBe(false);
    breaker.failed(error);
    expect(breaker.nearlyOpen).toBe(true);
    breaker.stop(error, 100);
    expect(breaker).toMatchObject({ nearlyOpen: false, halfOpen: false });
    now = 100;
    expect(breaker.halfOpen).toBe(true);
    breaker.enter();
    expect(breaker.halfOpen, "the probe is on its way").toBe(false);
  });

  it("opens for a short time again after a success", () => {
    let now = 0;
    const breaker = createBreaker(
      () => now,
      () => 1,
    );
    const open = (): void => {
      for (let i = 0; i < 10; i++) breaker.failed(error);
    };
    open();
    now = 1_500;
    breaker.enter();
    breaker.failed(error);
    now = 1_500 + 2_500;
    breaker.enter();
    breaker.succeeded();
    open();
    now += 1_500;
    breaker.enter();
  });

  it("opens at once on request", () => {
    let now = 0;
    const breaker = createBreaker(() => now);
    breaker.stop(error, 60_000);
    now = 59_999;
    expect(() => breaker.enter()).toThrow("it is down");
    now = 60_000;
    breaker.enter();
  });
});
