import { describe, expect, test } from 'vitest';
import { completeService } from '../../src/api/complete.ts';
import type { Service } from '../../src/api/types.ts';
import { formatWindow, perSecond, stepsOf, vitalsOf } from '../../src/lib/rates.ts';
import { wideIncrements } from '../../src/lib/ticks.ts';
import { formatCount } from '../../src/lib/units.ts';

describe('rates of counts', () => {
  const steps = { fromMs: 0, stepMs: 60_000, firstSeenMs: 90_000, toMs: 210_000 };

  test('each over the part of its step in which the service was seen', () => {
    expect(perSecond([null, 600, 1200, 600], steps)).toEqual([null, 20, 20, 20]);
    expect(perSecond([5], { ...steps, stepMs: 100, firstSeenMs: null })).toEqual([50]);
    expect(perSecond([600], { ...steps, firstSeenMs: null, toMs: 60_000 })).toEqual([10]);
  });

  test('a moment is not taken for a second of nothing', () => {
    expect(perSecond([null, 3], { ...steps, firstSeenMs: 119_990 })).toEqual([null, 0.3]);
  });
});

test('windows as a person says them', () => {
  expect([5_000, 59_400, 180_400, 3_600_000, 21_600_000, 259_200_000].map(formatWindow)).toEqual(['5 s', '59 s', '3 min', '60 min', '6 h', '3 d']);
});

test('a service of an older server, and one without requests', () => {
  const bare = completeService({ name: 'job', series: { from: '2026-01-01T00:00:00Z', step_ms: 1000 } } as unknown as Service);
  expect([bare.requests_per_second, bare.series?.logs, vitalsOf(bare)]).toEqual([null, [], '']);
  expect(stepsOf(bare, 5).firstSeenMs).toBe(null);
  const job = { ...bare, logs_per_minute: 540, error_logs: 1, error_events: 2, cpu_cores: 0.021, memory_bytes: 43_000_000 };
  expect(vitalsOf(job)).toBe('1 error line · 2 errors · 0.021 cores · 41 MiB');
});

describe('very large values', () => {
  test('read as numbers', () => {
    expect([1e300, 2.5e18, 999e12, -1e20].map(formatCount)).toEqual(['1e300', '2.5e18', '999T', '-1e20']);
  });

  test('have ticks', () => {
    expect(wideIncrements(1e12)).toBe(null);
    expect(wideIncrements(Number.POSITIVE_INFINITY)).toBe(null);
    for (const top of [1e16, 1.06e300, Number.MAX_VALUE]) {
      const found = wideIncrements(top) ?? [];
      expect(found.every((value, index) => Number.isFinite(value) && (index === 0 || value > (found[index - 1] ?? 0)))).toBe(true);
      expect(found.some((value) => top / value >= 3 && top / value <= 8)).toBe(true);
    }
  });
});
