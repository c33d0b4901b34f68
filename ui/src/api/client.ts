/** The only door to the server. Every call takes a signal, so that leaving a page stops its questions. */

import { linesOf, type LogLine, type LokiStream } from '../lib/logs.ts';
import { toRfc3339, type RangeMs } from '../lib/time.ts';
import { completeAlert, completeAlertDetail, completeDeploy, completeIncident, completeIncidentDetail, completeIssue, completeIssueDetail, completeService, completeTrace } from './complete.ts';
import { token } from '../state/session.ts';
import type {
  Alert,
  AlertDetail,
  AlertState,
  Deploy,
  Incident,
  IncidentDetail,
  IncidentState,
  Issue,
  IssueDetail,
  IssueStatus,
  MatrixSeries,
  MetricMetadata,
  RangeAnswer,
  RuleGroup,
  Service,
  Status,
  Trace,
  TraceSummary,
} from './types.ts';

/** What went wrong: `kind` says whose turn it is, `message` is the server's own words. */
export class ApiError extends Error {
  readonly kind: 'network' | 'unauthorized' | 'not_found' | 'fix_request' | 'over_limit' | 'unavailable' | 'server';
  readonly status: number;

  constructor(kind: ApiError['kind'], status: number, message: string) {
    super(message);
    this.name = 'ApiError';
    this.kind = kind;
    this.status = status;
  }
}

const REQUEST_TIMEOUT_MS = 60_000;

type Query = Readonly<Record<string, string | number | readonly string[] | null | undefined>>;

function address(path: string, query: Query): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === '') continue;
    if (Array.isArray(value)) for (const each of value) search.append(key, String(each));
    else search.append(key, String(value));
  }
  const text = search.toString();
  return text === '' ? path : `${path}?${text}`;
}

interface Options {
  readonly query?: Query;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

async function request<T>(path: string, options: Options): Promise<T> {
  const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const headers: Record<string, string> = { accept: 'application/json', ...options.headers };
  if (token() !== '') headers['authorization'] = `Bearer ${token()}`;
  const init: RequestInit = {
    signal: options.signal ? AbortSignal.any([options.signal, timeout]) : timeout,
    headers,
    credentials: 'same-origin',
  };
  if (options.body !== undefined) {
    init.method = 'POST';
    headers['content-type'] = 'application/json';
    init.body = JSON.stringify(options.body);
  }
  let response: Response;
  try {
    response = await fetch(address(path, options.query ?? {}), init);
  } catch (cause) {
    if (options.signal?.aborted) throw cause;
    if (timeout.aborted) throw new ApiError('unavailable', 0, `the server gave no answer within ${REQUEST_TIMEOUT_MS / 1000} s`);
    throw new ApiError('network', 0, 'the server cannot be reached');
  }
  const text = await response.text();
  if (!response.ok) throw errorOf(response.status, text);
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError('server', response.status, `the answer of ${path} is not JSON`);
  }
}

/** Reads the error of the native API, of Prometheus, or plain text, as Loki writes it. */
function errorOf(status: number, text: string): ApiError {
  let message = text.trim().slice(0, 2000);
  try {
    const body = JSON.parse(text) as { error?: string | { message?: string }; message?: string };
    if (typeof body.error === 'string') message = body.error;
    else if (typeof body.error?.message === 'string') message = body.error.message;
    else if (typeof body.message === 'string') message = body.message;
  } catch {
    // Not JSON: the text itself is the message.
  }
  return new ApiError(kindOf(status), status, message === '' ? `the server answered ${status}` : message);
}

function kindOf(status: number): ApiError['kind'] {
  if (status === 401 || status === 403) return 'unauthorized';
  if (status === 404) return 'not_found';
  if (status === 413 || status === 422 || status === 429) return status === 422 ? 'fix_request' : 'over_limit';
  if (status === 502 || status === 503 || status === 504) return 'unavailable';
  return status < 500 ? 'fix_request' : 'server';
}

/** A list that is absent counts as empty, so that an older server still shows what it has. */
function listOf<T>(value: readonly T[] | null | undefined): readonly T[] {
  return Array.isArray(value) ? value : [];
}

const native = '/bellrock/v1';
const ends = (range: RangeMs) => ({ from: toRfc3339(range.fromMs), to: toRfc3339(range.toMs) });

export async function status(signal?: AbortSignal): Promise<Status> {
  return request<Status>(`${native}/status`, { signal });
}

export async function services(range: RangeMs, signal?: AbortSignal): Promise<readonly Service[]> {
  const answer = await request<{ services?: Service[] }>(`${native}/services`, { query: ends(range), signal });
  return listOf(answer.services).map(completeService);
}

export async function deploys(service: string, range: RangeMs, signal?: AbortSignal): Promise<readonly Deploy[]> {
  const answer = await request<{ deploys?: Deploy[] }>(`${native}/deploys`, { query: { service, ...ends(range) }, signal });
  return listOf(answer.deploys).map(completeDeploy);
}

export interface TraceQuery {
  readonly service?: string;
  readonly name?: string;
  readonly attributes?: readonly (readonly [string, string])[];
  readonly minDurationMs?: number | null;
  readonly maxDurationMs?: number | null;
  readonly status?: string;
  readonly traceql?: string;
  readonly limit: number;
}

export async function traces(query: TraceQuery, range: RangeMs, signal?: AbortSignal): Promise<readonly TraceSummary[]> {
  const answer = await request<{ traces?: TraceSummary[] }>(`${native}/traces`, {
    query: {
      service: query.service,
      name: query.name,
      attribute: query.attributes?.map(([key, value]) => `${key}=${value}`),
      min_duration_ms: query.minDurationMs,
      max_duration_ms: query.maxDurationMs,
      status: query.status,
      q: query.traceql,
      limit: query.limit,
      ...ends(range),
    },
    signal,
  });
  return listOf(answer.traces);
}

export async function trace(id: string, signal?: AbortSignal): Promise<Trace> {
  return completeTrace(await request<Trace>(`${native}/traces/${encodeURIComponent(id)}`, { signal }));
}

export async function issues(filter: { status?: string; service?: string; limit: number }, signal?: AbortSignal): Promise<readonly Issue[]> {
  const answer = await request<{ issues?: Issue[] }>(`${native}/issues`, { query: filter, signal });
  return listOf(answer.issues).map(completeIssue);
}

export async function issue(id: string, signal?: AbortSignal): Promise<IssueDetail> {
  return completeIssueDetail(await request<IssueDetail>(`${native}/issues/${encodeURIComponent(id)}`, { signal }));
}

export async function setIssueStatus(id: string, to: IssueStatus): Promise<Issue> {
  return request<Issue>(`${native}/issues/${encodeURIComponent(id)}`, { body: { status: to } });
}

export async function alerts(state: AlertState | '', signal?: AbortSignal): Promise<readonly Alert[]> {
  const answer = await request<{ alerts?: Alert[] }>(`${native}/alerts`, { query: { state }, signal });
  return listOf(answer.alerts).map(completeAlert);
}

export async function alert(id: string, signal?: AbortSignal): Promise<AlertDetail> {
  return completeAlertDetail(await request<AlertDetail>(`${native}/alerts/${encodeURIComponent(id)}`, { signal }));
}

export async function incidents(state: IncidentState | '', signal?: AbortSignal): Promise<readonly Incident[]> {
  const answer = await request<{ incidents?: Incident[] }>(`${native}/incidents`, { query: { state }, signal });
  return listOf(answer.incidents).map(completeIncident);
}

export async function incident(id: string, signal?: AbortSignal): Promise<IncidentDetail> {
  return completeIncidentDetail(await request<IncidentDetail>(`${native}/incidents/${encodeURIComponent(id)}`, { signal }));
}

export type IncidentAction = 'acknowledge' | 'resolve' | 'notes';

export async function actOnIncident(id: string, action: IncidentAction, by: string, text: string): Promise<IncidentDetail> {
  return completeIncidentDetail(await request<IncidentDetail>(`${native}/incidents/${encodeURIComponent(id)}/${action}`, { body: { by, text } }));
}

interface PrometheusAnswer<T> {
  readonly status: 'success' | 'error';
  readonly data: T;
  readonly warnings?: readonly string[];
  readonly infos?: readonly string[];
}

interface ResultData {
  readonly resultType: string;
  readonly result: unknown;
}

export async function queryRange(query: string, range: RangeMs, stepMs: number, signal?: AbortSignal): Promise<RangeAnswer> {
  const answer = await request<PrometheusAnswer<ResultData>>('/api/v1/query_range', {
    query: { query, start: toRfc3339(range.fromMs), end: toRfc3339(range.toMs), step: stepMs / 1000 },
    signal,
  });
  const result = Array.isArray(answer.data?.result) ? (answer.data.result as MatrixSeries[]) : [];
  return { series: result, warnings: [...listOf(answer.warnings), ...listOf(answer.infos)] };
}

/** How many names a completion list asks for. */
const NAMES_MAX = 20_000;

export async function metricNames(range: RangeMs, signal?: AbortSignal): Promise<readonly string[]> {
  return labelValues('__name__', '', range, signal);
}

export async function labelNames(metric: string, range: RangeMs, signal?: AbortSignal): Promise<readonly string[]> {
  const answer = await request<PrometheusAnswer<string[]>>('/api/v1/labels', {
    query: { 'match[]': metric, start: toRfc3339(range.fromMs), end: toRfc3339(range.toMs), limit: NAMES_MAX },
    signal,
  });
  return listOf(answer.data);
}

export async function labelValues(label: string, metric: string, range: RangeMs, signal?: AbortSignal): Promise<readonly string[]> {
  const answer = await request<PrometheusAnswer<string[]>>(`/api/v1/label/${encodeURIComponent(label)}/values`, {
    query: { 'match[]': metric, start: toRfc3339(range.fromMs), end: toRfc3339(range.toMs), limit: NAMES_MAX },
    signal,
  });
  return listOf(answer.data);
}

export async function metricMetadata(signal?: AbortSignal): Promise<ReadonlyMap<string, MetricMetadata>> {
  const answer = await request<PrometheusAnswer<Record<string, MetricMetadata[]>>>('/api/v1/metadata', { query: { limit: NAMES_MAX }, signal });
  const known = new Map<string, MetricMetadata>();
  for (const [name, all] of Object.entries(answer.data ?? {})) {
    const first = listOf(all)[0];
    if (first) known.set(name, first);
  }
  return known;
}

export async function rules(signal?: AbortSignal): Promise<readonly RuleGroup[]> {
  const answer = await request<PrometheusAnswer<{ groups?: RuleGroup[] }>>('/api/v1/rules', { query: { exclude_alerts: 'true' }, signal });
  return listOf(answer.data?.groups);
}

export type LogAnswer =
  | { readonly kind: 'lines'; readonly lines: readonly LogLine[] }
  | { readonly kind: 'series'; readonly series: readonly MatrixSeries[] };

export async function logs(query: string, range: RangeMs, options: { limit: number; stepMs?: number; signal?: AbortSignal }): Promise<LogAnswer> {
  const answer = await request<{ data?: ResultData }>('/loki/api/v1/query_range', {
    query: {
      query,
      start: toRfc3339(range.fromMs),
      end: toRfc3339(range.toMs),
      limit: options.limit,
      direction: 'backward',
      step: options.stepMs === undefined ? null : options.stepMs / 1000,
    },
    // Keeps a line's own attributes apart from its stream's labels: only the latter may stand in a selector.
    headers: { 'x-loki-response-encoding-flags': 'categorize-labels' },
    signal: options.signal,
  });
  const result = Array.isArray(answer.data?.result) ? answer.data.result : [];
  if (answer.data?.resultType === 'matrix') return { kind: 'series', series: result as MatrixSeries[] };
  return { kind: 'lines', lines: linesOf(result as LokiStream[]) };
}

export async function logLabels(range: RangeMs, signal?: AbortSignal): Promise<readonly string[]> {
  const answer = await request<{ data?: string[] }>('/loki/api/v1/labels', {
    query: { start: toRfc3339(range.fromMs), end: toRfc3339(range.toMs) },
    signal,
  });
  return listOf(answer.data);
}

export async function logLabelValues(label: string, range: RangeMs, signal?: AbortSignal): Promise<readonly string[]> {
  const answer = await request<{ data?: string[] }>(`/loki/api/v1/label/${encodeURIComponent(label)}/values`, {
    query: { start: toRfc3339(range.fromMs), end: toRfc3339(range.toMs) },
    signal,
  });
  return listOf(answer.data);
}

/** The address of the live tail; `startNanos` is the first instant wanted. */
export function tailAddress(query: string, startNanos: string, limit: number): string {
  const url = new URL(address('/loki/api/v1/tail', { query, start: startNanos, limit }), window.location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
