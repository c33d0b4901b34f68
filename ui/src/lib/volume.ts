/** How many lines of each level stand in each step of time. */

import type { MatrixSeries } from '../api/types.ts';
import { LEVELS, type Level } from './colour.ts';
import { lineLevel } from './logs.ts';
import type { RangeMs } from './time.ts';

export interface Volume {
  readonly fromMs: number;
  readonly stepMs: number;
  readonly bucketCount: number;
  /** The most serious last, so that it is drawn on top; levels without a line are left out. */
  readonly levels: readonly { readonly level: Level; readonly counts: Float64Array; readonly total: number }[];
  readonly maxTotal: number;
  readonly total: number;
}

/** Bucket i holds what was counted up to the end of step i: Loki's range vectors look back. */
export function volumeOf(answer: readonly MatrixSeries[], range: RangeMs, stepMs: number): Volume {
  const bucketCount = Math.max(1, Math.ceil((range.toMs - range.fromMs) / stepMs));
  const counts = new Map<Level, Float64Array>();
  for (const { metric, values } of answer) {
    const level = lineLevel(metric, {});
    let column = counts.get(level);
    if (column === undefined) {
      column = new Float64Array(bucketCount);
      counts.set(level, column);
    }
    for (const [seconds, text] of values ?? []) {
      const index = Math.min(bucketCount - 1, Math.round((seconds * 1000 - range.fromMs) / stepMs) - 1);
      const count = Number(text);
      if (index >= 0 && Number.isFinite(count)) column[index] = (column[index] ?? 0) + count;
    }
  }
  const levels = [...LEVELS]
    .reverse()
    .flatMap((level) => {
      const column = counts.get(level);
      return column === undefined ? [] : [{ level, counts: column, total: column.reduce((sum, count) => sum + count, 0) }];
    })
    .filter(({ total }) => total > 0);
  let maxTotal = 0;
  for (let index = 0; index < bucketCount; index += 1) {
    maxTotal = Math.max(
      maxTotal,
      levels.reduce((sum, each) => sum + (each.counts[index] ?? 0), 0),
    );
  }
  return { fromMs: range.fromMs, stepMs, bucketCount, levels, maxTotal, total: levels.reduce((sum, each) => sum + each.total, 0) };
}
