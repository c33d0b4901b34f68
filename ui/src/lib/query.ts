/** Building PromQL, LogQL and TraceQL from parts that may hold anything, and small reads of such texts. */

/** A string of all three languages: double-quoted, escaped as in Go. */
export function quote(text: string): string {
  let quoted = '"';
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (character === '"' || character === '\\') quoted += `\\${character}`;
    else if (character === '\n') quoted += '\\n';
    else if (character === '\t') quoted += '\\t';
    else if (character === '\r') quoted += '\\r';
    else if (code < 0x20 || code === 0x7f) quoted += `\\x${code.toString(16).padStart(2, '0')}`;
    else quoted += character;
  }
  return `${quoted}"`;
}

/** An attribute's name as LogQL, SQL and metrics know it: everything that is no letter, digit or underscore becomes one. */
export function labelName(attribute: string): string {
  const name = attribute.replace(/[^a-zA-Z0-9_]/g, '_');
  return /^\d/.test(name) ? `_${name}` : name;
}

/** A name as PromQL's selector braces want it: bare when legacy, else quoted. */
export function promLabel(name: string): string {
  return /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) ? name : quote(name);
}

export function isLegacyMetricName(name: string): boolean {
  return /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name);
}

/** `name`, or `{"name with dots"}`. */
export function metricSelector(name: string, matchers: readonly string[] = []): string {
  if (isLegacyMetricName(name)) return matchers.length === 0 ? name : `${name}{${matchers.join(', ')}}`;
  return `{${[quote(name), ...matchers].join(', ')}}`;
}

/** The question that fits a series of this name, whose metric has this type. */
export function suggestedQuery(name: string, type: string): string {
  if (name.endsWith('_bucket') && type !== 'gauge') return `histogram_quantile(0.95, sum by (le) (rate(${metricSelector(name)}[5m])))`;
  const cumulative = /_(total|count|sum)$/.test(name);
  // A histogram without a suffix is a native one.
  if (type === 'histogram' && !cumulative) return `histogram_quantile(0.95, sum(rate(${metricSelector(name)}[5m])))`;
  if (type === 'counter' || (cumulative && type !== 'gauge')) {
    return `rate(${metricSelector(name)}[5m])`;
  }
  return metricSelector(name);
}

/** The logs of one trace; of all services, because a trace crosses them. */
export function logsOfTrace(traceId: string, services: readonly string[]): string {
  const names = services.filter((name) => name !== '');
  const selector =
    names.length === 0
      ? '{service_name=~".+"}'
      : names.length === 1
        ? `{service_name=${quote(names[0] ?? '')}}`
        : `{service_name=~${quote(names.map(escapeRegex).join('|'))}}`;
  return `${selector} | trace_id=${quote(traceId)}`;
}

export function logsOfService(service: string): string {
  return `{service_name=${quote(service)}}`;
}

export function escapeRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Adds a filter to a log query: to its stream selector when the name is a stream label, else as a stage at the end. */
export function addLogFilter(query: string, label: string, value: string, options: { readonly stream: boolean; readonly negate: boolean }): string {
  const operator = options.negate ? '!=' : '=';
  const matcher = `${labelName(label)}${operator}${quote(value)}`;
  const trimmed = query.trim();
  if (!options.stream) return trimmed === '' ? `{service_name=~".+"} | ${matcher}` : `${trimmed} | ${matcher}`;
  const end = selectorEnd(trimmed);
  if (end === null) return `{${matcher}} ${trimmed}`.trim();
  const body = trimmed.slice(1, end).trim().replace(/,$/, '');
  return `{${body === '' ? matcher : `${body}, ${matcher}`}}${trimmed.slice(end + 1)}`;
}

/** Where the selector's closing brace stands, outside of strings; null when the query does not begin with one. */
function selectorEnd(query: string): number | null {
  if (!query.startsWith('{')) return null;
  let delimiter = '';
  for (let index = 1; index < query.length; index += 1) {
    const character = query[index] ?? '';
    if (delimiter !== '') {
      if (character === '\\' && delimiter === '"') index += 1;
      else if (character === delimiter) delimiter = '';
    } else if (character === '"' || character === '`') delimiter = character;
    else if (character === '}') return index;
  }
  return null;
}

/** Whether a LogQL text asks for lines (it begins with a selector) and not for numbers. */
export function isLogSelector(query: string): boolean {
  return query.trimStart().startsWith('{');
}

/** The labels that may hold a line's level, the surest first. */
export const LEVEL_LABELS = ['detected_level', 'level', 'severity_text', 'severity'] as const;

/** How many lines of each level a step holds; null for a query that already asks for numbers. */
export function volumeQuery(query: string, stepSeconds: number): string | null {
  if (!isLogSelector(query)) return null;
  return `sum by (${LEVEL_LABELS.join(', ')}) (count_over_time(${query.trim()} [${Math.max(1, Math.round(stepSeconds))}s]))`;
}

export interface TraceSearch {
  readonly service: string;
  readonly name: string;
  /** `key=value` pairs, separated by blanks; a value may stand in double quotes. */
  readonly attributes: string;
  readonly minDuration: string;
  readonly maxDuration: string;
  readonly status: string;
}

/** `http.route=/pay region="eu west"` as pairs, and what could not be read. */
export function parseAttributes(text: string): { readonly pairs: readonly (readonly [string, string])[]; readonly rejected: readonly string[] } {
  const pairs: [string, string][] = [];
  const rejected: string[] = [];
  const part = /([^\s=]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))|(\S+)/g;
  for (const found of text.matchAll(part)) {
    const [whole, key, quoted, bare] = found;
    if (key === undefined) rejected.push(whole);
    else pairs.push([key, quoted === undefined ? (bare ?? '') : quoted.replace(/\\(.)/g, '$1')]);
  }
  return { pairs, rejected };
}

/** Labels as a person reads them: `{job="api", code="500"}`; the metric's name before the brace. */
export function seriesName(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels)
    .filter(([name]) => name !== '__name__')
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${quote(value)}`);
  const name = labels['__name__'] ?? '';
  if (pairs.length === 0) return name === '' ? '{}' : name;
  return `${name}{${pairs.join(', ')}}`;
}

/** Names of series with what they all share left out: what tells them apart is what one reads. */
export function distinctNames(all: readonly Readonly<Record<string, string>>[]): string[] {
  const first = all[0];
  if (first === undefined) return [];
  if (all.length === 1) return [seriesName(first)];
  const shared = Object.entries(first).filter(([name, value]) => all.every((labels) => labels[name] === value));
  const sharedNames = new Set(shared.map(([name]) => name));
  return all.map((labels) => {
    const rest = Object.fromEntries(Object.entries(labels).filter(([name]) => !sharedNames.has(name)));
    return Object.keys(rest).length === 0 ? seriesName(labels) : seriesName(rest);
  });
}
