/** Range answers as columns: one shared list of times, one list of values for each series. */

import type { MatrixSeries } from '../api/types.ts';
import type { RangeMs } from './time.ts';
import { distinctNames } from './query.ts';

export interface Columns {
  readonly timesMs: readonly number[];
  readonly series: readonly { readonly label: string; readonly values: readonly (number | null)[] }[];
}

/** At most this many points are laid out: more than a screen has pixels. */
const POINTS_MAX = 20_000;

/** What the API writes as text: `NaN` and infinities become gaps. */
function valueOf(text: string): number | null {
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

export function columnsOf(answer: readonly MatrixSeries[], range: RangeMs, stepMs: number): Columns {
  const count = Math.min(POINTS_MAX, Math.floor((range.toMs - range.fromMs) / stepMs) + 1);
  const timesMs = Array.from({ length: Math.max(0, count) }, (_, index) => range.fromMs + index * stepMs);
  const names = distinctNames(answer.map(({ metric }) => metric));
  const seen = new Map<string, number>();
  const series = answer.map(({ values }, seriesIndex) => {
    const column = new Array<number | null>(timesMs.length).fill(null);
    for (const [seconds, text] of values ?? []) {
      const index = Math.round((seconds * 1000 - range.fromMs) / stepMs);
      if (index >= 0 && index < column.length) column[index] = valueOf(text);
    }
    return { label: unique(names[seriesIndex] ?? '', seen), values: column };
  });
  return { timesMs, series };
}

function unique(label: string, seen: Map<string, number>): string {
  const times = (seen.get(label) ?? 0) + 1;
  seen.set(label, times);
  return times === 1 ? label : `${label} (${times})`;
}
