/** Distances between ticks of values so large that the chart's own list has none. */

/** Beyond this the chart knows no distance, and draws no labels. */
const KNOWN_MAX = 1e15;
const FACTORS = [1, 2, 2.5, 5];

/** Rising distances for values up to `top` and beyond, or null where the chart's own list is enough. */
export function wideIncrements(top: number): number[] | null {
  if (!(top > KNOWN_MAX) || !Number.isFinite(top)) return null;
  const power = Math.floor(Math.log10(top));
  const found: number[] = [];
  for (let exponent = power - 2; exponent <= Math.min(power, 307); exponent += 1) {
    for (const factor of FACTORS) found.push(Number(`${factor}e${exponent}`));
  }
  return found;
}
