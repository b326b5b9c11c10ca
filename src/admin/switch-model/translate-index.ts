/**
 * Rewrites an index definition, as PostgreSQL prints it, for other columns and another model. String literals stay
 * as they are, except the model's name. A cast to the old column's dimension becomes one to the new dimension.
 * @param names old to new: quoted columns, and the model's name as a literal
 */
export function translateIndex(
  definition: string,
  names: ReadonlyMap<string, string>,
  fromDimensions: number,
  toDimensions: number,
): string {
  const token =
    /'(?:[^']|'')*'|"(?:[^"]|"")*"|\b(?:vector|halfvec|sparsevec|bit)\(\d+\)|[\p{L}_][\p{L}\p{N}_$]*/gu;
  const cast = new RegExp(`^[a-z]+\\(${fromDimensions}\\)$`);
  return definition.replace(token, (word) =>
    cast.test(word) ? word.replace(/\d+/, String(toDimensions)) : (names.get(word) ?? word),
  );
}
