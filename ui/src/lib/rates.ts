/** Rates from counts in steps, and what else a service says of itself in a few words. */

import type { Service } from '../api/types.ts';
import { instantOf } from './time.ts';
import { formatBytes, formatCount, formatSignificant } from './units.ts';

/** A rate over less would make much of the first line that a service writes. The server takes the same for its figures. */
const SEEN_MIN_MS = 10_000;

interface Steps {
  readonly fromMs: number;
  readonly stepMs: number;
  /** When the service was first seen, and the end of the range: the steps that they cut are shorter. */
  readonly firstSeenMs: number | null;
  readonly toMs: number;
}

/** Counts as rates per second, each over that part of its step in which the service was seen. */
export function perSecond(counts: readonly (number | null)[], steps: Steps): (number | null)[] {
  return counts.map((count, index) => {
    if (count === null) return null;
    const start = Math.max(steps.fromMs + index * steps.stepMs, steps.firstSeenMs ?? Number.NEGATIVE_INFINITY);
    const end = Math.min(steps.fromMs + (index + 1) * steps.stepMs, steps.toMs);
    return count / (Math.max(end - start, Math.min(SEEN_MIN_MS, steps.stepMs)) / 1000);
  });
}

/** The steps of a service's curves within a range that ends at `toMs`. */
export function stepsOf(service: Service, toMs: number): Steps {
  const { series, first_seen: seen } = service;
  return { fromMs: series ? instantOf(series.from) : 0, stepMs: series?.step_ms ?? 1000, firstSeenMs: seen === null ? null : instantOf(seen), toMs };
}

/** A length of time as a person says it: `45 s`, `3 min`, `6 h`. */
export function formatWindow(ms: number): string {
  if (ms < 59_500) return `${Math.max(1, Math.round(ms / 1000))} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

export function formatCores(cores: number | null): string {
  if (cores === null) return '–';
  return cores < 0.01 ? '< 0.01 cores' : `${formatSignificant(cores)} cores`;
}

/** What a service without requests shows in their place: errors, processor and memory, as far as they are known. */
export function vitalsOf(service: Service): string {
  const parts: string[] = [];
  const some = (count: number, one: string, many: string) => {
    if (count > 0) parts.push(`${formatCount(count)} ${count === 1 ? one : many}`);
  };
  some(service.error_logs, 'error line', 'error lines');
  some(service.error_events, 'error', 'errors');
  if (service.cpu_cores !== null) parts.push(formatCores(service.cpu_cores));
  if (service.memory_bytes !== null) parts.push(formatBytes(service.memory_bytes));
  if (parts.length === 0 && service.logs_per_minute === null && service.signals.includes('metrics')) return 'metrics only';
  return parts.join(' · ');
}
