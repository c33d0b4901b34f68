/** Fills in what a server of another version leaves out, so that a page shows what there is. */

import type { Alert, AlertDetail, Deploy, Evidence, Incident, IncidentDetail, Issue, IssueDetail, Service, Trace } from './types.ts';

/** Every key of a complete shape; a key that is absent or undefined in what came takes the value given here. */
function withDefaults<T extends object>(came: T, defaults: Partial<T>): T {
  const whole = { ...came };
  for (const key of Object.keys(defaults) as (keyof T)[]) {
    if (whole[key] === undefined || (whole[key] === null && Array.isArray(defaults[key]))) whole[key] = defaults[key] as T[keyof T];
  }
  return whole;
}

export function completeService(service: Service): Service {
  const series = service.series ? withDefaults(service.series, { requests: [], errors: [], p95_ms: [], logs: [] }) : null;
  return {
    ...withDefaults<Service>(service, {
      first_seen: null,
      last_seen: null,
      signals: [],
      rate_window_ms: 0,
      requests_per_second: null,
      error_ratio: null,
      logs_per_minute: null,
      error_logs: 0,
      error_events: 0,
      cpu_cores: null,
      memory_bytes: null,
    }),
    series,
  };
}

export function completeTrace(trace: Trace): Trace {
  const spans = trace.spans ?? [];
  // In place: a trace may have 100 000 spans.
  for (const span of spans as { -readonly [Key in keyof (typeof spans)[number]]: (typeof spans)[number][Key] }[]) {
    span.parent_span_id ??= null;
    span.attributes ??= {};
    span.resource ??= {};
    span.scope ??= null;
    span.events ??= [];
    span.status ??= 'unset';
  }
  return { ...trace, spans };
}

export function completeDeploy(deploy: Deploy): Deploy {
  return withDefaults(deploy, { environment: '', previous_version: '' });
}

export function completeIssue<T extends Issue>(issue: T): T {
  return withDefaults<Issue>(issue, { culprit: null, release: null, last_trace_id: null, series: null, value: '', type: '' }) as T;
}

export function completeIssueDetail(issue: IssueDetail): IssueDetail {
  const events = (issue.events ?? []).map((event) => {
    const exceptions = (event.exceptions ?? []).map((exception) =>
      withDefaults(exception, { frames: [], module: null, stacktrace_text: null, value: '' }),
    );
    return { ...withDefaults(event, { message: null, handled: null, trace_id: null, span_id: null, attributes: {} }), exceptions };
  });
  return { ...completeIssue(issue), grouping: issue.grouping ?? '', events };
}

export function completeAlert<T extends Alert>(alert: T): T {
  return withDefaults<Alert>(alert, {
    labels: {},
    annotations: {},
    severity: null,
    service: null,
    value: null,
    active_at: null,
    fired_at: null,
    resolved_at: null,
    incident_id: null,
    rule: null,
  }) as T;
}

export function completeAlertDetail(alert: AlertDetail): AlertDetail {
  return { ...completeAlert(alert), evidence: alert.evidence ? completeEvidence(alert.evidence) : null };
}

function completeEvidence(evidence: Evidence): Evidence {
  const whole = withDefaults(evidence, {
    what: null,
    where: null,
    why: null,
    since: null,
    service: null,
    owner: null,
    runbook: null,
    next_steps: [],
    curve: null,
    traces: [],
    paths: [],
    errors: [],
    deploy: null,
  });
  const errors = whole.errors.map((error) => withDefaults(error, { count: null, issue_id: null, trace_id: null, message: null }));
  const curve = whole.curve ? withDefaults(whole.curve, { threshold: null, points: [] }) : null;
  return { ...whole, errors, curve };
}

export function completeIncident<T extends Incident>(incident: T): T {
  return withDefaults<Incident>(incident, {
    severity: null,
    service: null,
    acknowledged_at: null,
    acknowledged_by: null,
    resolved_at: null,
    alerts: [],
    firing: 0,
  }) as T;
}

export function completeIncidentDetail(incident: IncidentDetail): IncidentDetail {
  return completeIncident(incident);
}
