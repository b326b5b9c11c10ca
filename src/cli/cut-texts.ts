/** What to do about texts that a model does not read to their end. */
export const CUT_ADVICE = "split long texts into shorter chunks, or use a model with a longer limit";

/** From this share on, cut texts are a warning. */
export const NOTABLE_CUT_SHARE = 0.01;

/** `120 of 120 (100 %)`. A share that is neither nothing nor all is never rounded to 0 or 100. */
export function cutShareText(cut: number, texts: number): string {
  const percent = (100 * cut) / Math.max(texts, cut, 1);
  const shown = percent === 0 || percent === 100 ? percent : Math.min(99, Math.max(1, Math.round(percent)));
  return `${cut} of ${Math.max(texts, cut)} (${shown} %)`;
}
