/** Unix nanoseconds as decimal text, as Loki writes them: more digits than a double holds, so they stay text or bigint. */

import { formatClock, formatDateTime } from './time.ts';

/** Milliseconds, rounded down; 0 when the text is no number. */
export function nanosToMs(nanos: string): number {
  return /^\d{1,19}$/.test(nanos) ? Number(BigInt(nanos) / 1_000_000n) : 0;
}

export function msToNanos(ms: number): string {
  return String(BigInt(Math.round(ms)) * 1_000_000n);
}

/** The next nanosecond. */
export function nextNanos(nanos: string): string {
  return /^\d{1,19}$/.test(nanos) ? String(BigInt(nanos) + 1n) : nanos;
}

/** Newer first is `compareNanos(b, a)`. */
export function compareNanos(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** `14:05:09.123`, local. */
export function formatClockMillis(nanos: string): string {
  const ms = nanosToMs(nanos);
  return `${formatClock(ms)}.${String(ms % 1000).padStart(3, '0')}`;
}

/** All nine digits, local. */
export function formatNanosExact(nanos: string): string {
  const ms = nanosToMs(nanos);
  return `${formatDateTime(ms)}.${nanos.slice(-9).padStart(9, '0')}`;
}
