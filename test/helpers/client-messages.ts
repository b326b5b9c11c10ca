/** Messages of PostgreSQL's wire protocol as a client sends them. */

/** @param type empty for a startup packet @param length as it is announced, right or wrong */
export function clientMessage(type: string, length: number, body: string | Uint8Array = ""): Buffer {
  const head = Buffer.alloc(type.length + 4);
  head.write(type, 0, "latin1");
  head.writeInt32BE(length, type.length);
  return Buffer.concat([head, typeof body === "string" ? Buffer.from(body, "latin1") : body]);
}

export const sizedMessage = (type: string, body: string | Uint8Array): Buffer =>
  clientMessage(type, 4 + body.length, body);

export const STARTUP = sizedMessage("", "\0\x03\0\0user\0postgres\0database\0postgres\0\0");

/** The password of an address. */
export const passwordMessage = (connectionString: string): Buffer =>
  sizedMessage("p", `${new URL(connectionString).password}\0`);
