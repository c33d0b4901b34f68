import { describe, expect, test } from 'vitest';
import { colourSlots, levelOf, SLOT_COUNT } from '../../src/lib/colour.ts';
import { completionAt, rank } from '../../src/lib/completion.ts';
import { href, isTraceId, path, safeHttpUrl } from '../../src/lib/links.ts';
import { addLogFilter, distinctNames, logsOfTrace, metricSelector, parseAttributes, quote, seriesName, suggestedQuery, volumeQuery } from '../../src/lib/query.ts';
import { routeOf, translateGraphQuery } from '../../src/lib/routes.ts';
import { unitOfQuery } from '../../src/lib/units.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';

describe('texts become queries without changing their meaning', () => {
  test.each([
    ['plain', '"plain"'],
    ['a"b\\c', '"a\\"b\\\\c"'],
    ['line\nbreak\t', '"line\\nbreak\\t"'],
    ['\u0000\u001b', '"\\x00\\x1b"'],
    ['{}|=~`', '"{}|=~`"'],
    ['ünïcode 🗼', '"ünïcode 🗼"'],
  ])('%j', (text, expected) => expect(quote(text)).toBe(expected));

  test('logs of a trace', () => {
    expect(logsOfTrace(TRACE, [])).toBe(`{service_name=~".+"} | trace_id="${TRACE}"`);
    expect(logsOfTrace(TRACE, ['a"b'])).toBe(`{service_name="a\\"b"} | trace_id="${TRACE}"`);
    expect(logsOfTrace(TRACE, ['a.b', 'c'])).toBe(`{service_name=~"a\\\\.b|c"} | trace_id="${TRACE}"`);
  });

  test.each([
    ['{a="1"}', 'level', 'error', true, false, '{a="1", level="error"}'],
    ['{a="}"} |= "x"', 'level', 'error', true, true, '{a="}", level!="error"} |= "x"'],
    ['{a=`}`} | json', 'b', '2', true, false, '{a=`}`, b="2"} | json'],
    ['{}', 'b', '2', true, false, '{b="2"}'],
    ['{a="1"} | json', 'http.route', '/x', false, false, '{a="1"} | json | http_route="/x"'],
    ['', 'b', '2', false, false, '{service_name=~".+"} | b="2"'],
  ])('%s and %s', (query, label, value, stream, negate, expected) => expect(addLogFilter(query, label, value, { stream, negate })).toBe(expected));

  test('metrics of any name and type', () => {
    expect(metricSelector('up')).toBe('up');
    expect(metricSelector('http.server.duration')).toBe('{"http.server.duration"}');
    expect(suggestedQuery('requests_total', 'counter')).toBe('rate(requests_total[5m])');
    expect(suggestedQuery('d_seconds_bucket', 'histogram')).toBe('histogram_quantile(0.95, sum by (le) (rate(d_seconds_bucket[5m])))');
    expect(suggestedQuery('d_seconds_count', 'histogram')).toBe('rate(d_seconds_count[5m])');
    expect(suggestedQuery('d_seconds', 'histogram')).toBe('histogram_quantile(0.95, sum(rate(d_seconds[5m])))');
    expect(suggestedQuery('memory_bytes', 'gauge')).toBe('memory_bytes');
  });

  test('only lines have a volume', () => {
    expect(volumeQuery('{a="b"} |= "x"', 30)).toContain('count_over_time({a="b"} |= "x" [30s])');
    expect(volumeQuery('sum(rate({a="b"}[5m]))', 30)).toBeNull();
  });

  test('attributes of the search form', () => {
    expect(parseAttributes('http.route=/pay region="eu \\"west\\"" k=a=b oops')).toEqual({
      pairs: [
        ['http.route', '/pay'],
        ['region', 'eu "west"'],
        ['k', 'a=b'],
      ],
      rejected: ['oops'],
    });
    expect(parseAttributes('  ')).toEqual({ pairs: [], rejected: [] });
  });
});

describe('links', () => {
  test.each([
    ['https://runbooks.example/a?b=c', 'https://runbooks.example/a?b=c'],
    [' http://x.example ', 'http://x.example/'],
    ['javascript:alert(1)', null],
    ['JaVaScRiPt:alert(1)', null],
    ['data:text/html,<script>', null],
    ['//evil.example', null],
    ['/relative', null],
    ['https://bank.example@evil.example/', null],
    ['https://', null],
    [`https://x.example/${'a'.repeat(3000)}`, null],
    [42, null],
  ])('%s', (text, expected) => expect(safeHttpUrl(text)).toBe(expected));

  test('ids of traces', () => {
    expect(isTraceId(TRACE)).toBe(true);
    expect(isTraceId('a3ce929d0e0e4736')).toBe(true);
    expect(isTraceId('0'.repeat(32))).toBe(false);
    expect(isTraceId('../../admin')).toBe(false);
  });

  test('a path holds any name, and the route gives it back', () => {
    for (const name of ['checkout', 'a/b', '<img>', '100 %', 'ü?#&', '..']) {
      const [pathname] = href(path('services', name), { q: 'x y&z' }).split('?');
      expect(routeOf(pathname ?? '')).toEqual({ page: 'service', name });
    }
  });

  test('routes are total', () => {
    expect(routeOf('/')).toEqual({ page: 'services' });
    expect(routeOf('/traces/%E0%A4%A')).toEqual({ page: 'missing' });
    expect(routeOf('/logs/x')).toEqual({ page: 'missing' });
    expect(routeOf('/a/b/c')).toEqual({ page: 'missing' });
  });

  test('links of Prometheus open the explorer', () => {
    expect(translateGraphQuery(new URLSearchParams('g0.expr=up&g0.range_input=6h')).toString()).toBe('q=up&from=now-6h');
  });
});

describe('completion', () => {
  // The bar is the cursor.
  test.each([
    ['http_re|', { kind: 'expression' }, 'http_re'],
    ['sum(rate(http|', { kind: 'expression' }, 'http'],
    ['up{jo|', { kind: 'label', metric: 'up' }, 'jo'],
    ['up{job="a", in|', { kind: 'label', metric: 'up' }, 'in'],
    ['up{job=~"ap|"}', { kind: 'value', metric: 'up', label: 'job' }, 'ap'],
    ['sum by (co|', { kind: 'label', metric: '' }, 'co'],
    ['{service_name="ch|', { kind: 'value', metric: '', label: 'service_name' }, 'ch'],
    ['rate(up[5|', { kind: 'none' }, '5'],
    ['{a="b"} |= "some te|', { kind: 'none' }, 'some te'],
    ['a{x="}"} + b|', { kind: 'expression' }, 'b'],
  ])('%s', (marked, place, prefix) => {
    // The last bar: LogQL has bars of its own.
    const cursor = marked.lastIndexOf('|');
    const text = marked.slice(0, cursor) + marked.slice(cursor + 1);
    expect(completionAt(text, cursor)).toMatchObject({ place, prefix });
  });

  test('every place of every text has an answer', () => {
    const text = 'sum by (a, b) (rate(x_total{c="d\\"", e=~`f`}[5m] offset 1h)) / "un{closed';
    for (let cursor = 0; cursor <= text.length; cursor += 1) {
      const { start, end } = completionAt(text, cursor);
      expect(start).toBeLessThanOrEqual(cursor);
      expect(end).toBeGreaterThanOrEqual(cursor);
    }
  });

  test('those that begin with it stand first', () => {
    expect(rank(['xrate', 'rate', 'resets', 'irate', 'other'], 'rate')).toEqual(['rate', 'irate', 'xrate']);
    expect(rank(['http_requests_total'], 'hrt')).toEqual(['http_requests_total']);
  });
});

describe('names', () => {
  test('series', () => {
    expect(seriesName({ __name__: 'up', job: 'a"b' })).toBe('up{job="a\\"b"}');
    expect(seriesName({})).toBe('{}');
    expect(distinctNames([{ __name__: 'up', job: 'a', env: 'x' }, { __name__: 'up', job: 'b', env: 'x' }])).toEqual(['{job="a"}', '{job="b"}']);
  });

  test('colours differ while there are enough, whatever the order', () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    const slots = colourSlots(names);
    expect(new Set(slots.values()).size).toBe(SLOT_COUNT);
    expect(colourSlots([...names].reverse())).toEqual(slots);
  });

  test('levels in the words of all loggers', () => {
    expect([' WARNING ', 'Err', 'critical', 'notice', 'verbose', undefined].map(levelOf)).toEqual(['warn', 'error', 'fatal', 'info', 'unknown', 'unknown']);
  });

  test.each([
    ['histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))', 'seconds'],
    ['process_resident_memory_bytes', 'bytes'],
    ['rate(process_cpu_seconds_total[5m])', 'number'],
    ['rate(network_bytes_total[5m])', 'bytes'],
    ['count(process_resident_memory_bytes)', 'number'],
    ['sum(rate(a_seconds_sum[5m])) / sum(rate(a_seconds_count[5m]))', 'number'],
    ['up', 'number'],
  ])('the unit of %s', (query, unit) => expect(unitOfQuery(query)).toBe(unit));
});
