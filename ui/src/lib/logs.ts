/** Log lines as the pages hold them, read from what Loki's API answers. */

import { levelOf, type Level } from './colour.ts';
import { compareNanos } from './nanos.ts';
import { isTraceId } from './links.ts';
import { LEVEL_LABELS } from './query.ts';

export interface LogLine {
  readonly nanos: string;
  readonly line: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly level: Level;
}

export type LokiEntry = readonly [string, string] | readonly [string, string, unknown];

export interface LokiStream {
  readonly stream: Readonly<Record<string, string>>;
  readonly values: readonly LokiEntry[];
}

/** Loki's structured metadata, flat or by category; anything that is no text is left out. */
function metadataOf(value: unknown): Record<string, string> {
  const metadata: Record<string, string> = {};
  if (typeof value !== 'object' || value === null) return metadata;
  for (const [key, held] of Object.entries(value)) {
    if (typeof held === 'string') metadata[key] = held;
    else if (key === 'structuredMetadata' || key === 'parsed') Object.assign(metadata, metadataOf(held));
  }
  return metadata;
}

export function lineLevel(labels: Readonly<Record<string, string>>, metadata: Readonly<Record<string, string>>): Level {
  for (const name of LEVEL_LABELS) {
    const level = levelOf(metadata[name] ?? labels[name]);
    if (level !== 'unknown') return level;
  }
  return 'unknown';
}

/** All lines of all streams, the newest first; lines of one instant stay in the order in which they came. */
export function linesOf(streams: readonly LokiStream[]): LogLine[] {
  const lines: LogLine[] = [];
  for (const { stream, values } of streams) {
    for (const [nanos, line, extra] of values) {
      const metadata = metadataOf(extra);
      lines.push({ nanos, line, labels: stream, metadata, level: lineLevel(stream, metadata) });
    }
  }
  return lines.sort((a, b) => compareNanos(b.nanos, a.nanos));
}

/** The trace that a line belongs to, or null. */
export function traceOf(line: LogLine): string | null {
  for (const name of ['trace_id', 'traceID', 'traceId', 'otelTraceID']) {
    const id = line.metadata[name] ?? line.labels[name];
    if (isTraceId(id)) return id.toLowerCase();
  }
  return null;
}

/** A line is shown on one row: control characters (colours of terminals among them) are taken out, and it is cut. */
export function preview(line: string, lengthMax = 2000): string {
  const cut = line.length > lengthMax ? `${line.slice(0, lengthMax)}…` : line;
  // eslint-disable-next-line no-control-regex
  return cut.replace(/\u001b\[[0-9;]*m/g, '').replace(/[\u0000-\u001f\u007f]+/g, ' ');
}

/** The fields of a line that is a JSON object, one level deep; null when it is none. */
export function jsonFields(line: string): Record<string, string> | null {
  const trimmed = line.trim();
  if (!trimmed.startsWith('{') || !trimmed.endsWith('}') || trimmed.length > 262_144) return null;
  let value: unknown;
  try {
    value = JSON.parse(trimmed);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const fields: Record<string, string> = {};
  for (const [key, held] of Object.entries(value)) fields[key] = typeof held === 'string' ? held : JSON.stringify(held);
  return fields;
}
