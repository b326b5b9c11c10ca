/**
 * A `vector[]` parameter in PostgreSQL's binary array format: 1 dimension, no NULLs, the element's OID,
 * length and lower bound 1, then each element as pgvector's `vector_send` writes it: int16 dimensions,
 * int16 zero, float4 components, all big-endian. 4 bytes per component instead of about 9 as text.
 * @param vectors all of the same length
 * @param vectorOid the OID of the type `vector` in this database
 * @throws RangeError if the lengths differ
 */
export function vectorArrayToBinary(vectors: readonly Float32Array[], vectorOid: number): Buffer {
  const dimensions = vectors[0]?.length ?? 0;
  const elementBytes = 4 + 4 * dimensions;
  const buffer = Buffer.allocUnsafe(20 + vectors.length * (4 + elementBytes));
  let at = 0;
  for (const value of [1, 0, vectorOid, vectors.length, 1]) at = buffer.writeUInt32BE(value, at);
  for (const vector of vectors) {
    if (vector.length !== dimensions) throw new RangeError("vectors of different dimensions in one batch");
    at = buffer.writeInt32BE(elementBytes, at);
    at = buffer.writeInt16BE(dimensions, at);
    at = buffer.writeInt16BE(0, at);
    for (const component of vector) at = buffer.writeFloatBE(component, at);
  }
  return buffer;
}

/** The exact vector in what pgvector's `vector_send` returns. */
export function vectorFromBinary(bytes: Buffer): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const vector = new Float32Array(view.getInt16(0));
  for (let i = 0; i < vector.length; i++) vector[i] = view.getFloat32(4 + 4 * i);
  return vector;
}
