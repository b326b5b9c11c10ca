/** One text of an `embed` call, ready to be sent. */
export interface Input {
  /** Its position among the texts of the call. */
  index: number;
  text: string;
  tokens: number;
  /** Whether the text was truncated, at the model's limit or before. */
  cut: boolean;
}

export interface RequestLimits {
  requestTokens: number;
  requestInputs: number;
}

/**
 * Splits inputs, in order, into requests within the limits. An input that alone exceeds the token limit gets
 * its own request.
 */
export function splitRequests(
  inputs: readonly Input[],
  { requestTokens, requestInputs }: RequestLimits,
): Input[][] {
  const requests: Input[][] = [];
  let current: Input[] = [];
  let tokens = 0;
  for (const input of inputs) {
    if (current.length > 0 && (current.length >= requestInputs || tokens + input.tokens > requestTokens)) {
      requests.push(current);
      current = [];
      tokens = 0;
    }
    current.push(input);
    tokens += input.tokens;
  }
  if (current.length > 0) requests.push(current);
  return requests;
}
