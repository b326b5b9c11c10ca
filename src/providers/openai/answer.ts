/** Validates a server's answer: a wrong vector in a row is worse than none. */

export interface Answer {
  /** In the order of the inputs; L2-normalized, unless zero or not finite. */
  vectors: Float32Array[];
  /** null: the server does not report usage. */
  tokens: number | null;
}

/** The answer does not match the request. The message never quotes the answer. */
export class WrongAnswer extends Error {
  override readonly name = "WrongAnswer";
}

/** @throws WrongAnswer unless the body has exactly one vector per input, all of the same length */
export function parseAnswer(body: unknown, inputs: number): Answer {
  const data = field(body, "data");
  if (!Array.isArray(data)) throw new WrongAnswer("something that is not a list of embeddings");
  if (data.length !== inputs) throw new WrongAnswer(`${data.length} embeddings for ${inputs} texts`);
  const vectors = new Array<Float32Array | undefined>(inputs).fill(undefined);
  let length: number | null = null;
  for (const item of data as unknown[]) {
    const index = field(item, "index");
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= inputs) {
      throw new WrongAnswer("an embedding without a usable index");
    }
    if (vectors[index] !== undefined) throw new WrongAnswer(`index ${index} twice`);
    const vector = decode(field(item, "embedding"));
    length ??= vector.length;
    if (vector.length !== length || length === 0) throw new WrongAnswer("embeddings of different lengths");
    vectors[index] = normalize(vector);
  }
  return { vectors: vectors.filter((vector) => vector !== undefined), tokens: usage(body) };
}

/** Components of the vectors; null: there are none. */
export function dimensionsOf({ vectors }: Answer): number | null {
  return vectors[0]?.length ?? null;
}

/** Decodes base64 of little-endian float32, or a plain array from servers without base64. */
function decode(embedding: unknown): Float32Array {
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

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (Reflect.get(value, name) as unknown) : undefined;
}
