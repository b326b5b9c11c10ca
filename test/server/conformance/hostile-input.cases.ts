/** What happens to a row, a key or a table. */
export type Outcome = "embedded" | "blank" | "refused";

/** A text in SQL, and what becomes of its row. PostgreSQL itself refuses NUL and lone surrogates: `refused`. */
export const TEXTS: [name: string, sql: string, outcome: Outcome][] = [
  ["NUL", "'a' || chr(0)", "refused"],
  ["a lone surrogate as an escape", "U&'a\\D800'", "refused"],
  ["a lone surrogate as UTF-8 bytes", "convert_from('\\xeda080', 'UTF8')", "refused"],
  ["a lone surrogate in JSON", `('{"a": "\\ud800"}'::jsonb ->> 'a')`, "refused"],
  ["bidirectional controls", "U&'abc \\202E def \\2066 ghi \\2069 \\200F'", "embedded"],
  ["one word of 1 MB", "repeat('x', 1000000)", "embedded"],
  ["100,000 combining marks", "'a' || repeat(U&'\\0301', 100000)", "embedded"],
  ["emoji only", "repeat(U&'\\+01F680\\+01F469\\200D\\+01F467', 1000)", "embedded"],
  [
    "every kind of white space",
    "U&' \\0009\\000A\\000B\\000C\\000D\\0085\\00A0\\1680\\2000\\200A\\2028\\2029\\202F\\205F\\3000\\FEFF'",
    "blank",
  ],
  ["1 MB of white space", "repeat(U&'\\3000 ', 200000)", "blank"],
  ["nothing", "''", "blank"],
  ["NULL", "null", "blank"],
  ["a zero-width space", "U&'\\200B'", "embedded"],
  ["special tokens", "'[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <|endoftext|>'", "embedded"],
  ["a template's own syntax", "'{body} {{x}} {'", "embedded"],
  ["control characters", "U&'\\0001\\0002\\001B[31m'", "embedded"],
  ["noncharacters", "U&'\\FFFE\\FFFF\\+10FFFF'", "embedded"],
  ["something that looks like SQL", "'''; drop table texts; --'", "embedded"],
];

/** A key type and keys of it, all of which get vectors. */
export const KEYS: [type: string, keys: string[]][] = [
  ["int2", ["-32768", "32767", "0"]],
  ["int4", ["-2147483648", "2147483647"]],
  ["int8", ["-9223372036854775808", "9223372036854775807"]],
  ["numeric", ["NaN", "Infinity", "-Infinity", "1e1000", "0.0000000000000000000000001", "-0"]],
  ["float8", ["NaN", "Infinity", "-Infinity", "-0", "1.7976931348623157e308", "5e-324"]],
  ["float4", ["NaN", "Infinity", "3.4028235e38", "1e-45"]],
  [
    "text",
    ["", " ", "  x  ", "'", '"', "\\", "{a,b}", "NULL", "null", ",", "(", "a\nb", "x".repeat(2_000), "🚀"],
  ],
  ['text collate "C"', ["", "Ä", "ä"]],
  ["timestamptz", ["infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999+00"]],
  ["timestamp", ["infinity", "-infinity", "epoch"]],
  ["date", ["infinity", "-infinity", "5874897-12-31"]],
  ["interval", ["0", "-178000000 years", "1 month", "30 days 00:00:00.000001"]],
  ["bytea", ["\\x", "\\x00", "\\xdeadbeef"]],
  ["uuid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]],
  ["boolean", ["true", "false"]],
  ["inet", ["::", "255.255.255.255/0"]],
  ['"char"', ["a", ""]],
];

/** Names for a schema, a table and its columns at once. */
export const NAMES: [what: string, name: string][] = [
  ["a double quote", 'a"b'],
  ["a single quote", "a'b"],
  ["a backslash", "a\\b"],
  ["63 bytes", "n".repeat(63)],
  ["63 bytes of a multi-byte script", "é".repeat(31) + "x"],
  ["a reserved word", "select"],
  ["trailing spaces", "name  "],
  ["leading spaces", "  name"],
  ["mixed case", "MiXeD"],
  ["a dot", "a.b"],
  ["a comma", "a, b"],
  ["braces and dollars", "{a}$1$$"],
  ["a percent sign", "%I%s"],
  ["a line break", "a\nb"],
  ["emoji", "🚀"],
  ["a comment", "a--b/*"],
  ["a digit first", "1st"],
];
