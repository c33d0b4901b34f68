/** Numbers for people: three significant digits, the unit beside them, never colour alone. */

const SI: readonly [number, string][] = [
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

/** Three significant digits without trailing zeros. */
export function formatSignificant(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(2).replace(/\.?0+e/, 'e').replace('e+', 'e');
  if (size >= 100) return String(Math.round(value));
  const text = value.toPrecision(3);
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** `1.24k`, `18.9M`; `–` for what is no number. */
export function formatCount(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '-∞';
  if (Math.abs(value) >= 1e15) return formatSignificant(value);
  for (const [size, letter] of SI) {
    // 999.9 rounds to 1 000: it belongs to the next letter.
    if (Math.abs(value) >= size * 0.9995) return formatSignificant(value / size) + letter;
  }
  return formatSignificant(value);
}

/** From milliseconds: `410 µs`, `12.3 ms`, `1.2 s`, `3 min 20 s`. */
export function formatMs(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '–';
  const size = Math.abs(ms);
  if (size === 0) return '0 ms';
  if (size < 0.0009995) return `${formatSignificant(ms * 1e6)} ns`;
  if (size < 0.9995) return `${formatSignificant(ms * 1e3)} µs`;
  if (size < 999.5) return `${formatSignificant(ms)} ms`;
  if (size < 59_950) return `${formatSignificant(ms / 1e3)} s`;
  const seconds = Math.round(ms / 1e3);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** A share of one: `0.12 %`; a share that is not zero never reads as zero. */
export function formatRatio(ratio: number | null | undefined): string {
  if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) return '–';
  const percent = ratio * 100;
  if (percent === 0) return '0 %';
  if (Math.abs(percent) < 0.01) return '< 0.01 %';
  return `${formatSignificant(percent)} %`;
}

export function formatBytes(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined || !Number.isFinite(bytes)) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let index = 0;
  while (Math.abs(value) >= 999.5 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${formatSignificant(value)} ${units[index] ?? 'B'}`;
}

export type Unit = 'number' | 'ms' | 'seconds' | 'bytes' | 'ratio';

export function formatUnit(value: number | null | undefined, unit: Unit): string {
  switch (unit) {
    case 'ms':
      return formatMs(value);
    case 'seconds':
      return formatMs(value === null || value === undefined ? value : value * 1e3);
    case 'bytes':
      return formatBytes(value);
    case 'ratio':
      return formatRatio(value);
    case 'number':
      return formatCount(value);
  }
}

/** The unit that a metric's name promises, by the conventions of Prometheus; a query that counts or divides has none. */
export function unitOfQuery(query: string): Unit {
  const quantile = /histogram_quantile/.test(query);
  if (!quantile && /\b(count|group|absent)\w*\s*(by|without)?\s*\(/.test(query)) return 'number';
  const rated = /\b(rate|irate|increase|delta|deriv)\s*\(/.test(query);
  if (/\//.test(query.replace(/"[^"]*"/g, ''))) return /ratio/.test(query) ? 'ratio' : 'number';
  if (quantile || !rated) {
    if (/_seconds(_bucket|_sum|\b)/.test(query)) return 'seconds';
    if (/_milliseconds(_bucket|_sum|\b)/.test(query)) return 'ms';
  }
  if (/_bytes(_total|_sum|_bucket|\b)/.test(query)) return 'bytes';
  if (/_ratio\b/.test(query)) return 'ratio';
  return 'number';
}
