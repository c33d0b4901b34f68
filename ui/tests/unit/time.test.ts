import { describe, expect, test } from 'vitest';
import { compareNanos, formatNanosExact, msToNanos, nanosToMs, nextNanos } from '../../src/lib/nanos.ts';
import {
  describeRange,
  formatAgo,
  formatDurationExact,
  moveRange,
  niceStep,
  parseDuration,
  parseInstant,
  parseRange,
  resolveRange,
  toRfc3339,
} from '../../src/lib/time.ts';

const NOW = Date.parse('2026-11-20T14:05:09.250Z');

describe('durations', () => {
  test.each([
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['1.5h', 5_400_000],
    ['3 days', 259_200_000],
    ['250ms', 250],
    ['2 weeks', 1_209_600_000],
    ['', null],
    ['h', null],
    ['5', null],
    ['5x', null],
    ['5m?', null],
    ['-5m', null],
  ])('%s', (text, expected) => expect(parseDuration(text)).toBe(expected));

  test('what is written is read again', () => {
    for (let exponent = 0; exponent < 33; exponent += 1) {
      const ms = Math.floor(1.9 ** exponent) + exponent;
      expect(parseDuration(formatDurationExact(ms))).toBe(ms);
    }
  });
});

describe('instants', () => {
  test.each([
    ['now', NOW],
    ['now-1h', NOW - 3_600_000],
    ['-15m', NOW - 900_000],
    ['now + 1m', NOW + 60_000],
    ['2026-11-20T14:00:00Z', Date.parse('2026-11-20T14:00:00Z')],
    ['2026-11-20T14:00:00.5+02:00', Date.parse('2026-11-20T12:00:00.5Z')],
    ['2026-11-20 14:00:00,123 +0200', Date.parse('2026-11-20T12:00:00.123Z')],
    ['1763647509', 1_763_647_509_000],
    ['1763647509.25', 1_763_647_509_250],
    ['1763647509250', 1_763_647_509_250],
    ['1763647509250000000', 1_763_647_509_250],
    ['2026-13-40', null],
    ['soon', null],
    ['', null],
    ['now-', null],
    ['yesterday 25:00', null],
  ])('%s', (text, expected) => expect(parseInstant(text, NOW)).toBe(expected));
});

describe('ranges', () => {
  test.each([
    ['2h', { from: 'now-2h', to: 'now' }],
    ['last 3 days', { from: 'now-3d', to: 'now' }],
    ['now-6h to now', { from: 'now-6h', to: 'now' }],
    ['2026-11-20T10:00:00Z to 2026-11-20T11:00:00Z', { from: '2026-11-20T10:00:00.000Z', to: '2026-11-20T11:00:00.000Z' }],
    ['2026-11-20T10:00:00Z – 2026-11-20T11:00:00Z', { from: '2026-11-20T10:00:00.000Z', to: '2026-11-20T11:00:00.000Z' }],
    ['2026-11-20T10:00:00Z', { from: '2026-11-20T09:55:00.000Z', to: '2026-11-20T10:05:00.000Z' }],
    ['2026-11-20T11:00:00Z to 2026-11-20T10:00:00Z', null],
    ['whenever', null],
    ['0s', null],
  ])('%s', (text, expected) => expect(parseRange(text, NOW)).toEqual(expected));

  test('yesterday, with two clocks', () => {
    const range = parseRange('yesterday 14:00 – 15:00', NOW);
    expect(Date.parse(range?.to ?? '') - Date.parse(range?.from ?? '')).toBe(3_600_000);
  });

  test('what is wrong is said', () => {
    expect(resolveRange({ from: 'now', to: 'now-1h' }, NOW)).toEqual({ error: 'the range ends before it begins' });
    expect(resolveRange({ from: 'x', to: 'now' }, NOW)).toHaveProperty('error');
    expect(resolveRange({ from: 'now-1h', to: 'now' }, NOW)).toEqual({ fromMs: NOW - 3_600_000, toMs: NOW });
  });

  test('names', () => {
    expect(describeRange({ from: 'now-1h', to: 'now' }, NOW)).toBe('Last 1 hour');
    expect(describeRange({ from: 'now-90m', to: 'now' }, NOW)).toBe('Last 1h30m');
  });

  test('moving back and forth comes back', () => {
    const range = { fromMs: NOW - 3_600_000, toMs: NOW };
    const back = resolveRange(moveRange(range, -0.5), NOW);
    if ('error' in back) throw new Error(back.error);
    expect(resolveRange(moveRange(back, 0.5), NOW)).toEqual(range);
    expect(resolveRange(moveRange(range, 0, 2), NOW)).toEqual({ fromMs: NOW - 5_400_000, toMs: NOW + 1_800_000 });
  });

  test('steps are round and few enough', () => {
    expect(niceStep({ fromMs: 0, toMs: 3_600_000 }, 400)).toBe(10_000);
    expect(niceStep({ fromMs: 0, toMs: 1 }, 400)).toBe(1000);
    for (const days of [1, 7, 30, 400, 4000]) expect((days * 86_400_000) / niceStep({ fromMs: 0, toMs: days * 86_400_000 }, 400)).toBeLessThanOrEqual(400);
  });

  test('instants out of range do not throw', () => {
    expect(toRfc3339(Number.NaN)).toBe('1970-01-01T00:00:00.000Z');
    expect(toRfc3339(1e30)).toBe('+275760-09-13T00:00:00.000Z');
  });
});

test('ages', () => {
  expect(formatAgo(NOW - 1000, NOW)).toBe('just now');
  expect(formatAgo(NOW - 65_000, NOW)).toBe('1 min ago');
  expect(formatAgo(NOW + 7_300_000, NOW)).toBe('in 2 h');
});

test('nanoseconds keep all their digits', () => {
  expect(nanosToMs('1763647509250123456')).toBe(1_763_647_509_250);
  expect(msToNanos(1_763_647_509_250)).toBe('1763647509250000000');
  expect(nextNanos('1763647509250123456')).toBe('1763647509250123457');
  expect(formatNanosExact('1763647509250123456')).toMatch(/\.250123456$/);
  expect(nanosToMs('not a number')).toBe(0);
  expect(compareNanos('9', '10')).toBeLessThan(0);
  expect(compareNanos('1763647509250123457', '1763647509250123456')).toBeGreaterThan(0);
});
