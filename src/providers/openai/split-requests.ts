/** One text of an `embed` call, ready to be sent. */
export interface Input {
  /** Its position among the texts of the call. */
  index: number;
  text: string;
  tokens: number;
  /** Whether the text was truncated, at the model's limit or before. */
  cut: boolean;
  /** How often it was halved because the server found it too long. @default 0 */
  halvings?: number;
}

/** From the most characters that a worker reads by default to a few words. */
const MAX_HALVINGS = 12;

/** The first half of a text that a server finds too long; null: it was halved often enough, or nothing is left. */
export function halveText({ halvings = 0, ...input }: Input): Input | null {
  const half = input.text.length >> 1;
  // A character of two UTF-16 units stays whole.
  const text = input.text.slice(0, /[\ud800-\udbff]/.test(input.text.charAt(half - 1)) ? half - 1 : half);
  if (halvings >= MAX_HALVINGS || text.trim() === "") return null;
  return { ...input, text, tokens: Math.ceil(input.tokens / 2), cut: true, halvings: halvings + 1 };
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
