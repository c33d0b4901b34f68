import { expect, test } from 'vitest';
import { completeAlertDetail, completeIncident, completeIssueDetail, completeTrace } from '../../src/api/complete.ts';
import type { AlertDetail, Incident, IssueDetail, Trace } from '../../src/api/types.ts';

test('what is left out is filled in, what came stays', () => {
  const alert = completeAlertDetail({ id: 'a', name: 'A', state: 'firing', evidence: { frozen_at: 'x', curve: { query: 'up' }, errors: [{ title: 'E' }], traces: null } } as unknown as AlertDetail);
  expect(alert).toMatchObject({ id: 'a', labels: {}, rule: null, evidence: { next_steps: [], traces: [], curve: { query: 'up', points: [], threshold: null } } });
  expect(alert.evidence?.errors[0]).toMatchObject({ title: 'E', issue_id: null });
  expect(completeAlertDetail({ id: 'a' } as AlertDetail).evidence).toBeNull();

  const issue = completeIssueDetail({ id: 1, title: 't', events: [{ event_id: 'e', exceptions: [{ type: 'E' }] }] } as unknown as IssueDetail);
  expect(issue.events[0]).toMatchObject({ attributes: {}, handled: null, exceptions: [{ type: 'E', frames: [], value: '' }] });

  const trace = completeTrace({ trace_id: 't', spans: [{ span_id: 's', name: 'n' }] } as unknown as Trace);
  expect(trace.spans[0]).toMatchObject({ span_id: 's', parent_span_id: null, attributes: {}, events: [], status: 'unset' });
  expect(completeTrace({ trace_id: 't' } as Trace).spans).toEqual([]);

  expect(completeIncident({ id: 'i', alerts: null } as unknown as Incident)).toMatchObject({ alerts: [], firing: 0, severity: null });
});
