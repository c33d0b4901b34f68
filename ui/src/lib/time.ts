/** Instants, durations and ranges as people and URLs write them. All instants are milliseconds since 1970 unless a name says otherwise. */

/** The two ends as text, as they stand in the URL: `now`, `now-1h`, RFC 3339, or Unix seconds, milliseconds or nanoseconds. */
export interface RangeText {
  readonly from: string;
  readonly to: string;
}

/** Both ends included. */
export interface RangeMs {
  readonly fromMs: number;
  readonly toMs: number;
}

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const DEFAULT_RANGE: RangeText = { from: 'now-1h', to: 'now' };

export const PRESETS: readonly { readonly label: string; readonly from: string }[] = [
  { label: '5 minutes', from: 'now-5m' },
  { label: '15 minutes', from: 'now-15m' },
  { label: '1 hour', from: 'now-1h' },
  { label: '3 hours', from: 'now-3h' },
  { label: '6 hours', from: 'now-6h' },
  { label: '12 hours', from: 'now-12h' },
  { label: '1 day', from: 'now-1d' },
  { label: '2 days', from: 'now-2d' },
  { label: '7 days', from: 'now-7d' },
  { label: '30 days', from: 'now-30d' },
];

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY };

const WORD_UNIT: readonly [RegExp, string][] = [
  [/^(ms|millis|milliseconds?)$/, 'ms'],
  [/^(s|secs?|seconds?)$/, 's'],
  [/^(m|mins?|minutes?)$/, 'm'],
  [/^(h|hrs?|hours?)$/, 'h'],
  [/^(d|days?)$/, 'd'],
  [/^(w|weeks?)$/, 'w'],
];

/** Reads `90s`, `1h30m`, `1.5h`, `3 days`; null for anything else. */
export function parseDuration(text: string): number | null {
  const compact = text.trim().toLowerCase();
  if (compact === '') return null;
  const part = /\s*(\d+(?:\.\d+)?)\s*([a-z]+)/y;
  let total = 0;
  let position = 0;
  while (position < compact.length) {
    part.lastIndex = position;
    const found = part.exec(compact);
    if (!found) return null;
    const unit = WORD_UNIT.find(([pattern]) => pattern.test(found[2] ?? ''))?.[1];
    const factor = unit === undefined ? undefined : UNIT_MS[unit];
    if (factor === undefined) return null;
    total += Number(found[1]) * factor;
    position = part.lastIndex;
  }
  return Number.isFinite(total) ? total : null;
}

/** One end of a range; null when the text is no instant. */
export function parseInstant(text: string, nowMs: number): number | null {
  const trimmed = text.trim();
  if (trimmed === '') return null;
  if (/^now$/i.test(trimmed)) return nowMs;
  const relative = /^(?:now)?\s*([-+])\s*(.+)$/i.exec(trimmed);
  if (relative) {
    const duration = parseDuration(relative[2] ?? '');
    if (duration === null) return null;
    return relative[1] === '-' ? nowMs - duration : nowMs + duration;
  }
  if (/^\d+(\.\d+)?$/.test(trimmed)) return parseEpoch(trimmed);
  const day = dayWord(trimmed, nowMs);
  if (day !== null) return day;
  return parseCalendar(trimmed);
}

/** Unix time in the unit that its number of digits suggests. */
function parseEpoch(digits: string): number | null {
  const whole = digits.split('.')[0] ?? '';
  const value = Number(digits);
  if (!Number.isFinite(value)) return null;
  if (whole.length <= 11) return value * SECOND;
  if (whole.length <= 14) return value;
  // More digits than a double holds: whole milliseconds are cut off as text.
  if (whole.length <= 17) return Number(whole.slice(0, -3));
  return Number(whole.slice(0, -6));
}

function dayWord(text: string, nowMs: number): number | null {
  const found = /^(today|yesterday)(?:\s+(\d{1,2}):(\d{2})(?::(\d{2}))?)?$/i.exec(text);
  if (!found) return null;
  const date = new Date(nowMs);
  const dayOffset = found[1]?.toLowerCase() === 'yesterday' ? -1 : 0;
  const hours = Number(found[2] ?? 0);
  const minutes = Number(found[3] ?? 0);
  const seconds = Number(found[4] ?? 0);
  if (hours > 23 || minutes > 59 || seconds > 59) return null;
  return new Date(date.getFullYear(), date.getMonth(), date.getDate() + dayOffset, hours, minutes, seconds).getTime();
}

/** RFC 3339, or a date with a time and no zone, which is local time. */
function parseCalendar(text: string): number | null {
  const found = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(Z|[+-]\d{2}:?\d{2})?)?$/i.exec(text);
  if (!found) return null;
  const [, date, clock = '00:00', zone = ''] = found;
  // A zone without a colon is ISO 8601 basic: Date wants the colon.
  const offset = zone.toUpperCase().replace(/^([+-]\d{2})(\d{2})$/, '$1:$2');
  const value = Date.parse(`${date}T${clock.replace(',', '.')}${offset}`);
  return Number.isNaN(value) ? null : value;
}

/** Both ends as instants, or what is wrong with the text. */
export function resolveRange(range: RangeText, nowMs: number): RangeMs | { readonly error: string } {
  const fromMs = parseInstant(range.from, nowMs);
  if (fromMs === null) return { error: `“${range.from}” is not a time; write now-1h, 2026-11-20T14:00:00Z or Unix seconds` };
  const toMs = parseInstant(range.to, nowMs);
  if (toMs === null) return { error: `“${range.to}” is not a time; write now, 2026-11-20T15:00:00Z or Unix seconds` };
  if (toMs <= fromMs) return { error: 'the range ends before it begins' };
  return { fromMs, toMs };
}

/** Reads what a person types into the picker: `2h`, `last 3 days`, `yesterday`, `A to B`, or one log timestamp. Null when it is none of these. */
export function parseRange(text: string, nowMs: number): RangeText | null {
  const trimmed = text.trim();
  const ends = trimmed.split(/\s+(?:to|until)\s+|\s*[–—]\s*|\s+-\s+|\.\.+/i);
  if (ends.length === 2) return rangeOfEnds(ends[0] ?? '', ends[1] ?? '', nowMs);
  const duration = parseDuration(trimmed.replace(/^(?:the\s+)?(?:last|past|now\s*-|-)\s*/i, ''));
  if (duration !== null && duration > 0) return { from: `now-${formatDurationExact(duration)}`, to: 'now' };
  if (/^today$/i.test(trimmed)) return { from: toRfc3339(dayWord('today', nowMs) ?? nowMs), to: 'now' };
  if (/^yesterday$/i.test(trimmed)) {
    const from = dayWord('yesterday', nowMs);
    const to = dayWord('today', nowMs);
    return from === null || to === null ? null : { from: toRfc3339(from), to: toRfc3339(to) };
  }
  const instant = parseInstant(trimmed, nowMs);
  if (instant === null) return null;
  // A pasted timestamp means: show me what surrounds it.
  return { from: toRfc3339(instant - 5 * MINUTE), to: toRfc3339(instant + 5 * MINUTE) };
}

function rangeOfEnds(fromText: string, toText: string, nowMs: number): RangeText | null {
  const fromMs = parseInstant(fromText, nowMs);
  if (fromMs === null) return null;
  // `yesterday 14:00 – 15:00`: the second clock is on the day of the first.
  const clock = /^(\d{1,2}):(\d{2})$/.exec(toText.trim());
  const day = new Date(fromMs);
  const toMs = clock
    ? new Date(day.getFullYear(), day.getMonth(), day.getDate(), Number(clock[1]), Number(clock[2])).getTime()
    : parseInstant(toText, nowMs);
  if (toMs === null || toMs <= fromMs) return null;
  const keep = (part: string, value: number) => (/^\s*now/i.test(part) ? part.trim().toLowerCase().replace(/\s+/g, '') : toRfc3339(value));
  return { from: keep(fromText, fromMs), to: keep(toText, toMs) };
}

export function isLive(range: RangeText): boolean {
  return /^now$/i.test(range.to.trim());
}

/** `Last 1 hour`, or both ends in local time. */
export function describeRange(range: RangeText, nowMs: number): string {
  const back = /^now-(.+)$/i.exec(range.from.trim());
  if (back && isLive(range)) {
    const preset = PRESETS.find((candidate) => candidate.from === range.from.trim());
    if (preset) return `Last ${preset.label}`;
    const duration = parseDuration(back[1] ?? '');
    if (duration !== null) return `Last ${formatDurationExact(duration)}`;
  }
  const resolved = resolveRange(range, nowMs);
  if ('error' in resolved) return `${range.from} – ${range.to}`;
  const sameDay = new Date(resolved.fromMs).toDateString() === new Date(resolved.toMs).toDateString();
  return `${formatDateTime(resolved.fromMs)} – ${sameDay ? formatClock(resolved.toMs) : formatDateTime(resolved.toMs)}`;
}

/** The same span of time moved, or stretched, as absolute ends: `shift` is a share of its length. */
export function moveRange(range: RangeMs, shift: number, stretch = 1): RangeText {
  const length = range.toMs - range.fromMs;
  const middle = (range.fromMs + range.toMs) / 2 + shift * length;
  const half = (length * stretch) / 2;
  return { from: toRfc3339(middle - half), to: toRfc3339(middle + half) };
}

/** RFC 3339 in UTC with milliseconds. Clamped to what a Date can hold. */
export function toRfc3339(ms: number): string {
  const clamped = Math.min(8.64e15, Math.max(-62_135_596_800_000, Math.round(ms)));
  return new Date(Number.isNaN(clamped) ? 0 : clamped).toISOString();
}

/** Without loss: `1h30m`, `250ms`. */
export function formatDurationExact(ms: number): string {
  let rest = Math.max(0, Math.round(ms));
  if (rest === 0) return '0s';
  let text = '';
  for (const unit of ['w', 'd', 'h', 'm', 's', 'ms']) {
    const size = UNIT_MS[unit] ?? 1;
    // Weeks only when they come out even: `8d` reads better than `1w1d`.
    if (unit === 'w' && rest % size !== 0) continue;
    const count = Math.floor(rest / size);
    if (count === 0) continue;
    text += `${count}${unit}`;
    rest -= count * size;
  }
  return text;
}

const STEPS_MS: readonly number[] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800].map(
  (seconds) => seconds * SECOND,
);

/** The smallest round step that cuts the range into at most `points`; never under a second. */
export function niceStep(range: RangeMs, points: number): number {
  const wanted = (range.toMs - range.fromMs) / Math.max(1, points);
  return STEPS_MS.find((step) => step >= wanted) ?? Math.ceil(wanted / DAY) * DAY;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** `14:05:09`, local. */
export function formatClock(ms: number): string {
  const date = new Date(ms);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `2026-11-20 14:05:09`, local. */
export function formatDateTime(ms: number): string {
  if (!Number.isFinite(ms)) return '–';
  const date = new Date(ms);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${formatClock(ms)}`;
}

/** `3 min ago`, `in 2 h`. */
export function formatAgo(ms: number, nowMs: number): string {
  const difference = nowMs - ms;
  const size = Math.abs(difference);
  if (size < 5 * SECOND) return 'just now';
  const text =
    size < MINUTE
      ? `${Math.floor(size / SECOND)} s`
      : size < HOUR
        ? `${Math.floor(size / MINUTE)} min`
        : size < 2 * DAY
          ? `${Math.floor(size / HOUR)} h`
          : `${Math.floor(size / DAY)} days`;
  return difference >= 0 ? `${text} ago` : `in ${text}`;
}

/** Milliseconds of an RFC 3339 text of the API; NaN when absent. */
export function instantOf(text: string | null | undefined): number {
  return text ? Date.parse(text) : Number.NaN;
}

/** The name of the zone that local times are in. */
export function zoneName(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || 'local time';
}
