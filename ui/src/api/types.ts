/** The shapes of docs/native-api.md, and of the parts of the Prometheus and Loki APIs that the pages read. */

export type Text = string;
/** RFC 3339. */
export type Instant = string;
export type Attributes = Readonly<Record<string, unknown>>;

export interface Status {
  readonly version: Text;
  readonly started_at: Instant;
  readonly tenant?: Text | number;
  readonly principal?: Text | { readonly name?: Text } | null;
  readonly ready: boolean;
  readonly replay?: { readonly done: boolean; readonly position: number; readonly target: number };
  readonly ingest?: {
    readonly metrics?: { readonly samples_total: number; readonly series: number };
    readonly logs?: { readonly records_total: number };
    readonly spans?: { readonly spans_total: number };
    readonly errors?: { readonly events_total: number };
  };
}

export interface ServiceSeries {
  readonly from: Instant;
  readonly step_ms: number;
  /** How many in each step; so are `errors`. */
  readonly requests: readonly (number | null)[];
  readonly errors: readonly (number | null)[];
  readonly p95_ms: readonly (number | null)[];
  /** Log lines in each step. */
  readonly logs: readonly (number | null)[];
}

/** A service that sends only logs, errors or samples has no requests: their figures are null. */
export interface Service {
  readonly name: Text;
  readonly environment: Text | null;
  readonly version: Text | null;
  /** Within the range that was asked for; null where only samples are known. */
  readonly first_seen: Instant | null;
  readonly last_seen: Instant | null;
  readonly signals: readonly Text[];
  /** What the rates are taken over: from `first_seen` to the end of the range. */
  readonly rate_window_ms: number;
  readonly requests_per_second: number | null;
  readonly error_ratio: number | null;
  readonly p50_ms: number | null;
  readonly p95_ms: number | null;
  readonly p99_ms: number | null;
  readonly logs_per_minute: number | null;
  readonly error_logs: number;
  readonly error_events: number;
  readonly cpu_cores: number | null;
  readonly memory_bytes: number | null;
  readonly series: ServiceSeries | null;
  readonly open_issues: number;
  readonly firing_alerts: number;
}

/** A version of a service that came after another, or is the first that was heard of. */
export interface Deploy {
  readonly service: Text;
  readonly environment: Text;
  readonly version: Text;
  /** Empty for the first one. */
  readonly previous_version: Text;
  readonly at: Instant;
  readonly last_seen: Instant;
}

export interface TraceSummary {
  readonly trace_id: Text;
  readonly root_service: Text;
  readonly root_name: Text;
  readonly started_at: Instant;
  readonly duration_ms: number;
  readonly spans: number;
  readonly errors: number;
  readonly services: readonly { readonly name: Text; readonly spans: number }[];
}

export interface SpanEvent {
  readonly offset_ms: number;
  readonly name: Text;
  readonly attributes: Attributes;
}

export interface Span {
  readonly span_id: Text;
  readonly parent_span_id: Text | null;
  readonly service: Text;
  readonly name: Text;
  readonly kind: Text;
  readonly offset_ms: number;
  readonly duration_ms: number;
  readonly status: Text;
  readonly status_message: Text | null;
  readonly attributes: Attributes;
  readonly resource: Attributes;
  readonly scope: { readonly name: Text; readonly version: Text } | null;
  readonly events: readonly SpanEvent[];
  readonly links?: readonly { readonly trace_id: Text; readonly span_id: Text }[];
}

export interface Trace {
  readonly trace_id: Text;
  readonly started_at: Instant;
  readonly duration_ms: number;
  readonly spans: readonly Span[];
}

export type IssueStatus = 'open' | 'resolved' | 'ignored';

export interface Issue {
  readonly id: Text | number;
  readonly title: Text;
  readonly type: Text;
  readonly value: Text;
  readonly culprit: Text | null;
  readonly service: Text;
  readonly level: Text;
  readonly status: IssueStatus;
  readonly count: number;
  readonly first_seen: Instant;
  readonly last_seen: Instant;
  readonly release: Text | null;
  readonly last_trace_id: Text | null;
  /** Of one issue only; a list may leave it out. */
  readonly series?: { readonly from: Instant; readonly step_ms: number; readonly counts: readonly number[] } | null;
  /** Whether it came back after it was resolved. */
  readonly is_regressed?: boolean;
}

export interface Frame {
  readonly function: Text | null;
  readonly module: Text | null;
  readonly filename: Text | null;
  readonly line: number | null;
  readonly in_app: boolean;
  readonly context_line: Text | null;
}

export interface Exception {
  readonly type: Text;
  readonly value: Text;
  readonly module: Text | null;
  readonly frames: readonly Frame[];
  readonly stacktrace_text: Text | null;
}

export interface IssueEvent {
  readonly event_id: Text;
  readonly at: Instant;
  readonly title: Text;
  readonly message: Text | null;
  readonly environment: Text | null;
  readonly release: Text | null;
  readonly transaction: Text | null;
  readonly trace_id: Text | null;
  readonly span_id: Text | null;
  readonly handled: boolean | null;
  readonly exceptions: readonly Exception[];
  readonly attributes: Attributes;
}

export interface IssueDetail extends Issue {
  /** Why its events are one issue, in words. */
  readonly grouping: Text;
  readonly events: readonly IssueEvent[];
}

export type AlertState = 'firing' | 'pending' | 'resolved';

export interface Alert {
  readonly id: Text;
  readonly name: Text;
  readonly state: AlertState;
  readonly severity: Text | null;
  readonly service: Text | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly value: number | null;
  readonly active_at: Instant | null;
  readonly fired_at: Instant | null;
  readonly resolved_at: Instant | null;
  readonly incident_id: Text | null;
  readonly rule: { readonly file: Text; readonly group: Text; readonly name: Text; readonly query: Text; readonly for_ms: number } | null;
}

export interface Evidence {
  readonly frozen_at: Instant;
  readonly what: Text | null;
  readonly where: Text | null;
  readonly why: Text | null;
  readonly since: Instant | null;
  readonly service: Text | null;
  readonly owner: Text | null;
  readonly runbook: Text | null;
  readonly next_steps: readonly Text[];
  readonly curve: { readonly query: Text; readonly threshold: number | null; readonly points: readonly (readonly [Instant | number, number | null])[] } | null;
  readonly traces: readonly { readonly trace_id: Text; readonly root_name: Text; readonly duration_ms: number; readonly status: Text }[];
  readonly paths: readonly { readonly path: Text; readonly requests: number; readonly errors: number; readonly p95_ms: number | null }[];
  readonly errors: readonly {
    readonly at: Instant;
    readonly title: Text;
    /** Events of this title among those that were looked at. */
    readonly count: number | null;
    readonly issue_id: Text | number | null;
    readonly trace_id: Text | null;
    readonly message: Text | null;
  }[];
  /** Where the traces began to fail, the commonest first; absent in evidence of releases before it was kept. */
  readonly causes?: readonly { readonly service: Text; readonly span: Text; readonly message: Text; readonly traces: number; readonly trace_id: Text }[];
  readonly deploy: { readonly service: Text; readonly version: Text; readonly at: Instant } | null;
}

export interface AlertDetail extends Alert {
  readonly evidence: Evidence | null;
}

export type IncidentState = 'open' | 'acknowledged' | 'resolved';

export interface Incident {
  readonly id: Text;
  readonly title: Text;
  readonly state: IncidentState;
  readonly severity: Text | null;
  readonly service: Text | null;
  readonly opened_at: Instant;
  readonly acknowledged_at: Instant | null;
  readonly acknowledged_by: Text | null;
  readonly resolved_at: Instant | null;
  readonly alerts: readonly Text[];
  readonly firing: number;
}

export interface IncidentDetail extends Incident {
  readonly timeline: readonly { readonly at: Instant; readonly kind: Text; readonly by: Text | null; readonly text: Text }[];
}

/** A series of a range query: Unix seconds and the value as text. */
export interface MatrixSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly values?: readonly (readonly [number, string])[];
  readonly histograms?: readonly unknown[];
}

export interface MetricMetadata {
  readonly type: Text;
  readonly help: Text;
  readonly unit: Text;
}

/** Of `/api/v1/rules`; durations are seconds. */
export interface RuleGroup {
  readonly name: Text;
  readonly file: Text;
  readonly interval: number;
  readonly rules: readonly {
    readonly name: Text;
    readonly query: Text;
    readonly type: 'alerting' | 'recording';
    readonly state?: Text;
    readonly health: 'ok' | 'err' | 'unknown';
    readonly lastError?: Text;
    readonly lastEvaluation?: Instant;
    readonly evaluationTime?: number;
    readonly duration?: number;
  }[];
}

export interface RangeAnswer {
  readonly series: readonly MatrixSeries[];
  readonly warnings: readonly Text[];
}
