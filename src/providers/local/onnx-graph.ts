import onnxProto from "onnx-proto";
import type { onnx as Onnx } from "onnx-proto";

const { onnx } = onnxProto;

/** The name of a value in the graph. An empty name omits an optional input. */
export type Value = string;
export type Dimension = number | string;
export type ElementType = "FLOAT" | "FLOAT16" | "INT32" | "INT64" | "BOOL";
type Attribute = Omit<Onnx.IAttributeProto, "name">;
export type Attributes = Readonly<Record<string, Attribute>>;

/** A tensor whose values are in another file. */
export interface ExternalTensor {
  name: string;
  type: ElementType;
  shape: readonly number[];
  /** The file's name in the session's `externalData`. */
  location: string;
  offsetBytes: number;
  lengthBytes: number;
}

export const MICROSOFT_DOMAIN = "com.microsoft";
/** ONNX 1.12 pairs IR version 8 with opset 17, the first with LayerNormalization. */
const IR_VERSION = 8;
const OPSET_VERSION = 17;

const { AttributeType } = onnx.AttributeProto;
const { DataType, DataLocation } = onnx.TensorProto;

export const int = (i: number): Attribute => ({ type: AttributeType.INT, i });
export const float = (f: number): Attribute => ({ type: AttributeType.FLOAT, f });
export const ints = (values: readonly number[]): Attribute => ({
  type: AttributeType.INTS,
  ints: [...values],
});

/** Builds an ONNX model: collects nodes and initializers, names them, and encodes the file. */
export class OnnxGraph {
  readonly #nodes: Onnx.INodeProto[] = [];
  readonly #initializers: Onnx.ITensorProto[] = [];
  readonly #inputs: Onnx.IValueInfoProto[] = [];
  readonly #outputs: Onnx.IValueInfoProto[] = [];

  input(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    this.#inputs.push(valueInfo(name, type, shape));
    return name;
  }

  /** Marks a value as an output, under the name `name`. */
  output(name: string, value: Value, type: ElementType, shape: readonly Dimension[]): void {
    this.#nodes.push({ opType: "Identity", name: `output_${name}`, input: [value], output: [name] });
    this.#outputs.push(valueInfo(name, type, shape));
  }

  /** Adds a node with one output and returns that output. */
  node(opType: string, inputs: readonly Value[], attributes: Attributes = {}, domain = ""): Value {
    const name = `${opType}_${this.#nodes.length}`;
    const attribute = Object.entries(attributes).map(([key, value]) => ({ name: key, ...value }));
    this.#nodes.push({ opType, domain, name, input: [...inputs], output: [name], attribute });
    return name;
  }

  cast(value: Value, to: ElementType): Value {
    return this.node("Cast", [value], { to: int(DataType[to]) });
  }

  external(tensor: ExternalTensor): Value {
    const { name, type, shape, location, offsetBytes, lengthBytes } = tensor;
    this.#initializers.push({
      name,
      dataType: DataType[type],
      dims: [...shape],
      dataLocation: DataLocation.EXTERNAL,
      externalData: [
        { key: "location", value: location },
        { key: "offset", value: String(offsetBytes) },
        { key: "length", value: String(lengthBytes) },
      ],
    });
    return name;
  }

  floats(values: Float32Array, shape: readonly number[]): Value {
    return this.#constant("FLOAT", bytesOf(values), shape);
  }

  int64(values: readonly number[], shape: readonly number[] = [values.length]): Value {
    return this.#constant("INT64", bytesOf(BigInt64Array.from(values, BigInt)), shape);
  }

  int32(values: readonly number[], shape: readonly number[] = [values.length]): Value {
    return this.#constant("INT32", bytesOf(Int32Array.from(values)), shape);
  }

  /** The bytes of a `.onnx` file (a serialized ModelProto). */
  encode(name: string): Uint8Array {
    return onnx.ModelProto.encode({
      irVersion: IR_VERSION,
      producerName: "embedd",
      opsetImport: [
        { domain: "", version: OPSET_VERSION },
        { domain: MICROSOFT_DOMAIN, version: 1 },
      ],
      graph: {
        name,
        node: this.#nodes,
        initializer: this.#initializers,
        input: this.#inputs,
        output: this.#outputs,
      },
    }).finish();
  }

  #constant(type: ElementType, rawData: Uint8Array, shape: readonly number[]): Value {
    const name = `constant_${this.#initializers.length}`;
    this.#initializers.push({ name, dataType: DataType[type], dims: [...shape], rawData });
    return name;
  }
}

function bytesOf(values: Float32Array | BigInt64Array | Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function valueInfo(name: string, type: ElementType, shape: readonly Dimension[]): Onnx.IValueInfoProto {
  const dim = shape.map((size) => (typeof size === "number" ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType: DataType[type], shape: { dim } } } };
}
