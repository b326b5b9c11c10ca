/** An input of a request: which text of the call it is, and how long. */
export interface Input {
  /** Its place among the texts of the call. */
  index: number;
  text: string;
  tokens: number;
  /** It was longer than the model reads. */
  cut: boolean;
}

export interface RequestLimits {
  requestTokens: number;
  requestInputs: number;
}

/**
 * Cuts inputs, in their order, into requests within the limits. An input beyond the token limit by itself
 * makes a request of its own.
 */
export function planRequests(
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
