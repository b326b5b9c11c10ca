import { open } from "node:fs/promises";
import { configurationError } from "../../errors.js";
import { shellWord } from "../../shell-word.js";

/** The location of a tensor's values in a safetensors file. */
export interface TensorEntry {
  /** Such as `F16`, `F32` or `I64`. */
  dtype: string;
  shape: readonly number[];
  /** Bytes from the start of the file, header included. */
  offsetBytes: number;
  lengthBytes: number;
}

export type TensorTable = ReadonlyMap<string, TensorEntry>;

const LENGTH_PREFIX_BYTES = 8;
/** The format's own limit, https://github.com/huggingface/safetensors#format */
const MAX_HEADER_BYTES = 100_000_000;
const BYTES_PER_VALUE: ReadonlyMap<string, number> = new Map([
  ...["BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"].map((dtype) => [dtype, 1] as const),
  ...["U16", "I16", "F16", "BF16"].map((dtype) => [dtype, 2] as const),
  ...["U32", "I32", "F32"].map((dtype) => [dtype, 4] as const),
  ...["U64", "I64", "F64"].map((dtype) => [dtype, 8] as const),
]);

/**
 * Lists the tensors of a safetensors file without reading their values.
 * @throws EmbeddError `configuration`/`model_weights` when the file is not a complete safetensors file
 */
export async function readTensorTable(path: string): Promise<TensorTable> {
  const file = await open(path, "r").catch((error: unknown) => {
    throw weightsError(path, error instanceof Error ? error.message : String(error));
  });
  try {
    const { size } = await file.stat();
    if (size < LENGTH_PREFIX_BYTES) throw weightsError(path, "shorter than its 8-byte length prefix");
    const prefix = Buffer.alloc(LENGTH_PREFIX_BYTES);
    await file.read(prefix, 0, LENGTH_PREFIX_BYTES, 0);
    const headerBytes = checkedHeaderBytes(path, prefix.readBigUInt64LE(0), size);
    const header = Buffer.alloc(headerBytes);
    await file.read(header, 0, headerBytes, LENGTH_PREFIX_BYTES);
    return parseTensorTable(path, header.toString("utf8"), LENGTH_PREFIX_BYTES + headerBytes, size);
  } finally {
    await file.close();
  }
}

function checkedHeaderBytes(path: string, declared: bigint, fileBytes: number): number {
  if (declared > BigInt(MAX_HEADER_BYTES)) throw weightsError(path, `a header of ${declared} bytes`);
  const headerBytes = Number(declared);
  if (LENGTH_PREFIX_BYTES + headerBytes > fileBytes) throw weightsError(path, "the header is cut off");
  return headerBytes;
}

function parseTensorTable(path: string, json: string, dataStart: number, fileBytes: number): TensorTable {
  let header: unknown;
  try {
    header = JSON.parse(json);
  } catch {
    throw weightsError(path, "the header is not JSON");
  }
  if (!isRecord(header)) throw weightsError(path, "the header is not a JSON object");
  const table = new Map<string, TensorEntry>();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    table.set(name, parseEntry(path, name, value, dataStart, fileBytes));
  }
  return table;
}

function parseEntry(
  path: string,
  name: string,
  value: unknown,
  dataStart: number,
  fileBytes: number,
): TensorEntry {
  const bad = (reason: string): Error => weightsError(path, `tensor "${name}" ${reason}`);
  if (!isRecord(value)) throw bad("is not described by an object");
  const { dtype, shape, data_offsets: offsets } = value;
  const valueBytes = typeof dtype === "string" ? BYTES_PER_VALUE.get(dtype) : undefined;
  if (typeof dtype !== "string" || valueBytes === undefined)
    throw bad(`has the unknown type ${String(dtype)}`);
  if (!isCounts(shape)) throw bad("has no valid shape");
  if (!isCounts(offsets)) throw bad("has no valid data_offsets");
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined || offsets.length !== 2 || end < begin) {
    throw bad("has no valid data_offsets");
  }
  const lengthBytes = end - begin;
  if (lengthBytes !== shape.reduce((product, size) => product * size, valueBytes)) {
    throw bad(`has ${lengthBytes} bytes, which do not match its shape [${shape.join(", ")}] of ${dtype}`);
  }
  if (dataStart + end > fileBytes) throw bad("extends beyond the end of the file");
  return { dtype, shape, offsetBytes: dataStart + begin, lengthBytes };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && Number(item) >= 0);
}

function weightsError(path: string, reason: string): Error {
  return configurationError(
    "model_weights",
    `${path} is not a usable safetensors file: ${reason}; download the model again`,
    `ls -l ${shellWord(path)}`,
  );
}
