export interface BertSizes {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  max_position_embeddings: number;
  type_vocab_size: number;
  vocab_size: number;
}

/** The tensors of a BERT, with their shapes. */
export function bertTensors(sizes: BertSizes): [name: string, shape: number[]][] {
  const { hidden_size: hidden, intermediate_size: wide } = sizes;
  const dense = (name: string, inSize: number, outSize: number): [string, number[]][] => [
    [`${name}.weight`, [outSize, inSize]],
    [`${name}.bias`, [outSize]],
  ];
  const norm = (block: string): [string, number[]][] => [
    [`${block}.LayerNorm.weight`, [hidden]],
    [`${block}.LayerNorm.bias`, [hidden]],
  ];
  const layers = Array.from({ length: sizes.num_hidden_layers }, (_, i) => `encoder.layer.${i}`);
  return [
    ["embeddings.word_embeddings.weight", [sizes.vocab_size, hidden]],
    ["embeddings.position_embeddings.weight", [sizes.max_position_embeddings, hidden]],
    ["embeddings.token_type_embeddings.weight", [sizes.type_vocab_size, hidden]],
    ...norm("embeddings"),
    ...layers.flatMap((layer) => [
      ...["self.query", "self.key", "self.value", "output.dense"].flatMap((part) =>
        dense(`${layer}.attention.${part}`, hidden, hidden),
      ),
      ...norm(`${layer}.attention.output`),
      ...dense(`${layer}.intermediate.dense`, hidden, wide),
      ...dense(`${layer}.output.dense`, wide, hidden),
      ...norm(`${layer}.output`),
    ]),
  ];
}

export interface Tensor {
  name: string;
  shape: readonly number[];
  values: ArrayLike<number>;
}

/** A safetensors file of float32 tensors: header length, JSON header, values. */
export function safetensorsFile(tensors: readonly Tensor[]): Buffer {
  const header: Record<string, object> = {};
  const parts: Buffer[] = [];
  let end = 0;
  for (const { name, shape, values } of tensors) {
    const begin = end;
    parts.push(Buffer.from(Float32Array.from(values).buffer));
    end += 4 * values.length;
    header[name] = { dtype: "F32", shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify({ ...header, __metadata__: { format: "pt" } }));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json, ...parts]);
}
