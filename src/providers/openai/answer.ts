/** Validates a server's answer: a wrong vector in a row is worse than none. */

export interface Answer {
  /** In the order of the inputs; L2-normalized, unless zero or not finite. */
  vectors: Float32Array[];
  /** null: the server does not report usage. */
  tokens: number | null;
  /** The server's name for the model that made them; null: it names none. */
  model: string | null;
}

/** pgvector's longest vector. */
export const MOST_DIMENSIONS = 16_000;

/** The answer does not match the request. The message never quotes the answer. */
export class WrongAnswer extends Error {
  override readonly name = "WrongAnswer";
}

/**
 * A missing index means the item's position, as long as all others agree with their own.
 * @throws WrongAnswer unless the body has exactly one item per input, with vectors of the same length; an item without a
 *   vector counts as one that is not finite, if others have one
 */
export function parseAnswer(body: unknown, inputs: number): Answer {
  const data = field(body, "data");
  if (!Array.isArray(data)) throw new WrongAnswer(`${whatElse(body)}; check EMBEDD_BASE_URL`);
  if (data.length !== inputs) throw new WrongAnswer(`${data.length} embeddings for ${inputs} texts`);
  const items = data as unknown[];
  const positional = items.some((item) => (field(item, "index") ?? null) === null);
  const vectors = new Array<Float32Array | null | undefined>(inputs).fill(undefined);
  items.forEach((item, position) => {
    const given = field(item, "index") ?? position;
    const index = typeof given === "number" && (!positional || given === position) ? given : -1;
    if (!Number.isInteger(index) || index < 0 || index >= inputs) {
      throw new WrongAnswer("an embedding without a usable index");
    }
    if (vectors[index] !== undefined) throw new WrongAnswer(`index ${index} twice`);
    vectors[index] = decode(field(item, "embedding"));
  });
  const length = vectors.find((vector) => vector instanceof Float32Array)?.length ?? 0;
  if (length === 0) throw new WrongAnswer("no vector");
  if (length > MOST_DIMENSIONS) throw new WrongAnswer(`vectors of ${length} dimensions`);
  return {
    vectors: vectors.map((vector) => {
      if (vector === null || vector === undefined) return new Float32Array(length).fill(NaN);
      if (vector.length !== length) throw new WrongAnswer("embeddings of different lengths");
      return normalize(vector);
    }),
    tokens: usage(body),
    model: textField(body, "model"),
  };
}

/** Some servers answer 200 with an error, for example LM Studio to an unknown address. */
function whatElse(body: unknown): string {
  const error = (field(body, "error") ?? null) !== null;
  return error ? "an error with status 200" : "something that is not a list of embeddings";
}

/** An error that an answer with status 200 carries in its body, as gateways do; null: none. */
export function errorInBody(body: unknown): { status: number; error: object } | null {
  const error = field(body, "error");
  const code = field(error, "code");
  // Of anything else, Number would call what the server named `toString`.
  const status = typeof code === "number" || typeof code === "string" ? Number(code) : NaN;
  const failed =
    field(body, "data") === undefined && Number.isInteger(status) && status >= 400 && status <= 599;
  if (!failed || typeof error !== "object" || error === null) return null;
  // The SDK writes the error as JSON, which fails on one that is nested deeply.
  const plain = Object.entries(error).filter(([, value]) => typeof value !== "object");
  return { status, error: { error: Object.fromEntries(plain) } };
}

/** Components of the vectors; null: there are none. */
export function dimensionsOf({ vectors }: Answer): number | null {
  return vectors[0]?.length ?? null;
}

/** Decodes base64 of little-endian float32, or a plain array from servers without base64. @returns null: none */
function decode(embedding: unknown): Float32Array | null {
  if (embedding === null || (Array.isArray(embedding) && embedding.length === 0)) return null;
  if (typeof embedding === "string") {
    const bytes = Buffer.from(embedding, "base64");
    if (bytes.length % 4 !== 0) throw new WrongAnswer("base64 that is not float32");
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  }
  if (!Array.isArray(embedding)) throw new WrongAnswer("an embedding that is neither numbers nor base64");
  // JSON has no NaN, so servers write null instead.
  return Float32Array.from(embedding as unknown[], (value) => (typeof value === "number" ? value : NaN));
}

function normalize(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const component of vector) squares += component * component;
  if (squares === 0) return vector;
  const scale = 1 / Math.sqrt(squares);
  return vector.map((component) => component * scale);
}

function usage(body: unknown): number | null {
  const reported = field(body, "usage");
  const tokens = field(reported, "prompt_tokens") ?? field(reported, "total_tokens");
  return typeof tokens === "number" && Number.isFinite(tokens) && tokens >= 0 ? Math.ceil(tokens) : null;
}

/** No model has a longer name. */
const MOST_NAME_UNITS = 500;

function textField(body: unknown, name: string): string | null {
  const value = field(body, name);
  return typeof value === "string" && value !== "" ? value.slice(0, MOST_NAME_UNITS) : null;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (Reflect.get(value, name) as unknown) : undefined;
}
