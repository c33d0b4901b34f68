import { describe, expect, test } from 'vitest';
import { jsonFields, linesOf, preview, traceOf } from '../../src/lib/logs.ts';
import { columnsOf } from '../../src/lib/matrix.ts';
import { Ring } from '../../src/lib/ring.ts';
import { buildTree, hasChildren, selfTimes, visibleRows, type TreeSpan } from '../../src/lib/trace-tree.ts';
import { formatBytes, formatCount, formatMs, formatRatio } from '../../src/lib/units.ts';
import { volumeOf } from '../../src/lib/volume.ts';
import { listHeight, scrollToRow, windowOf } from '../../src/lib/windowing.ts';

function span(id: string, parent: string | null, offset = 0, duration = 10): TreeSpan {
  return { span_id: id, parent_span_id: parent, offset_ms: offset, duration_ms: duration };
}

/** The tree as text: one letter a span, indented by depth; `!` marks a missing parent. */
function drawn(spans: readonly TreeSpan[]): string[] {
  const tree = buildTree(spans);
  return Array.from(tree.order, (index, row) => `${'-'.repeat(tree.depth[row] ?? 0)}${spans[index]?.span_id}${tree.orphan[row] === 1 ? '!' : ''}`);
}

/** Deterministic randomness for the property tests. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return state / 0x7fffffff;
  };
}

describe('the tree of a trace', () => {
  test('children by start, in any order of arrival', () => {
    expect(drawn([span('c', 'a', 5), span('b', 'a', 1), span('d', 'b', 2), span('a', null)])).toEqual(['a', '-b', '--d', '-c']);
  });

  test('missing parents, own parents, circles and repeated ids lose no span', () => {
    expect(drawn([span('a', 'gone'), span('b', 'a')])).toEqual(['a!', '-b']);
    expect(drawn([span('a', 'a')])).toEqual(['a!']);
    expect(drawn([span('a', 'c', 3), span('b', 'a', 1), span('c', 'b', 2)])).toEqual(['b!', '-c', '--a']);
    expect(drawn([span('a', null), span('a', null, 1), span('b', 'a', 2)])).toEqual(['a', '-b', 'a']);
    expect(drawn([])).toEqual([]);
  });

  test('any input: each span once, parents before children, branches nested', () => {
    const next = random(7);
    for (let round = 0; round < 50; round += 1) {
      const count = Math.floor(next() * 60);
      const spans = Array.from({ length: count }, (_, index) => span(`s${index}`, next() < 0.1 ? null : `s${Math.floor(next() * 70)}`, next() * 100, next() * 50));
      const tree = buildTree(spans);
      expect([...tree.order].sort((a, b) => a - b)).toEqual([...spans.keys()]);
      tree.order.forEach((_, row) => {
        const above = tree.parent[row] ?? -1;
        expect(above).toBeLessThan(row);
        if (above >= 0) expect(tree.branchEnd[row]).toBeLessThanOrEqual(tree.branchEnd[above] ?? 0);
      });
      const self = selfTimes(spans, tree);
      spans.forEach((each, index) => {
        expect(self[index]).toBeGreaterThanOrEqual(0);
        expect(self[index]).toBeLessThanOrEqual(each.duration_ms);
      });
    }
  });

  test('a chain of 100 000 spans does not overflow the stack', () => {
    const spans = Array.from({ length: 100_000 }, (_, index) => span(String(index), index === 0 ? null : String(index - 1)));
    const tree = buildTree(spans);
    expect(tree.branchEnd[0]).toBe(100_000);
    expect(visibleRows(tree, new Set([0]), null).length).toBe(1);
  });

  test('closing hides a branch; finding keeps what leads there', () => {
    const spans = [span('a', null), span('b', 'a', 1), span('c', 'b', 2), span('d', 'a', 3)];
    const tree = buildTree(spans);
    expect(hasChildren(tree, 1)).toBe(true);
    expect([...visibleRows(tree, new Set([1]), null)]).toEqual([0, 1, 3]);
    expect([...visibleRows(tree, new Set(), (index) => spans[index]?.span_id === 'c')]).toEqual([0, 1, 2]);
    expect([...visibleRows(tree, new Set(), () => false)]).toEqual([]);
  });

  test('own time leaves out what children cover, once', () => {
    const spans = [span('a', null, 0, 100), span('b', 'a', 10, 30), span('c', 'a', 20, 40), span('d', 'a', 90, 50)];
    expect([...selfTimes(spans, buildTree(spans))]).toEqual([40, 30, 40, 50]);
  });
});

describe('windows of long lists', () => {
  const layout = { rowCount: 1000, rowHeight: 20, openRow: -1, openHeight: 0 };

  test('the rows in sight are there', () => {
    expect(windowOf(layout, 0, 100, 0)).toEqual({ first: 0, end: 6, top: 0 });
    expect(windowOf(layout, 1010, 100, 0)).toEqual({ first: 50, end: 56, top: 1000 });
    expect(windowOf({ ...layout, rowCount: 0 }, 0, 100)).toEqual({ first: 0, end: 0, top: 0 });
  });

  test('an open row pushes down what follows', () => {
    const open = { ...layout, openRow: 2, openHeight: 300 };
    expect(listHeight(open)).toBe(20_300);
    expect(windowOf(open, 200, 100, 0).first).toBe(2);
    expect(windowOf(open, 360, 100, 0)).toEqual({ first: 3, end: 9, top: 360 });
  });

  test('lists taller than a browser scrolls reach their last row', () => {
    const huge = { ...layout, rowCount: 5_000_000 };
    const bottom = listHeight(huge) - 500;
    const shown = windowOf(huge, bottom, 500, 0);
    expect(shown.end).toBe(5_000_000);
    expect(shown.top + (shown.end - shown.first) * 20).toBeCloseTo(bottom + 500, 3);
  });

  test('scrolling to a row only when it is out of sight', () => {
    expect(scrollToRow(layout, 3, 0, 100)).toBeNull();
    expect(scrollToRow(layout, 10, 0, 100)).toBe(120);
    expect(scrollToRow(layout, 3, 500, 100)).toBe(60);
  });
});

describe('logs', () => {
  test('lines of all streams, newest first, with the metadata of both shapes', () => {
    const lines = linesOf([
      { stream: { service_name: 'a', level: 'info' }, values: [['10', 'ten', { trace_id: '4bf92f3577b34da6a3ce929d0e0e4736', n: 4 }], ['9', 'nine']] },
      { stream: { service_name: 'b' }, values: [['100', 'hundred', { structuredMetadata: { severity_text: 'ERROR' } }]] },
    ]);
    expect(lines.map(({ line, level }) => [line, level])).toEqual([
      ['hundred', 'error'],
      ['ten', 'info'],
      ['nine', 'info'],
    ]);
    expect(lines.map(traceOf)).toEqual([null, '4bf92f3577b34da6a3ce929d0e0e4736', null]);
    expect(lines[1]?.metadata).not.toHaveProperty('n');
  });

  test('a row is one line of plain text', () => {
    expect(preview('\u001b[31mred\u001b[0m\r\n\tnext\u0007')).toBe('red next ');
    expect(preview('x'.repeat(5000)).length).toBe(2001);
  });

  test('fields of JSON lines only', () => {
    expect(jsonFields('{"a": "b", "n": [1]}')).toEqual({ a: 'b', n: '[1]' });
    for (const line of ['plain', '[1]', '{broken}', '{"a"', '']) expect(jsonFields(line)).toBeNull();
  });

  test('what ends in a step is counted in it', () => {
    const volume = volumeOf([{ metric: { level: 'warning' }, values: [[10, '3'], [20, '5'], [0, '9']] }, { metric: {}, values: [[20, '1']] }], { fromMs: 0, toMs: 20_000 }, 10_000);
    expect(volume.levels.map(({ level, counts }) => [level, [...counts]])).toEqual([
      ['unknown', [0, 1]],
      ['warn', [3, 5]],
    ]);
    expect([volume.maxTotal, volume.total]).toEqual([6, 9]);
  });

  test('a ring keeps the newest and counts the others', () => {
    const ring = new Ring<number>(3);
    for (const item of [1, 2, 3, 4, 5]) ring.push(item);
    expect([0, 1, 2, 3].map((index) => ring.fromNewest(index))).toEqual([5, 4, 3, undefined]);
    expect([ring.length, ring.dropped]).toEqual([3, 2]);
    ring.clear();
    expect([ring.length, ring.dropped, ring.fromNewest(0)]).toEqual([0, 0, undefined]);
  });
});

test('a range answer becomes columns with gaps', () => {
  const columns = columnsOf([{ metric: { a: '1' }, values: [[0, '1'], [20, 'NaN'], [30, '+Inf'], [99, '7']] }, { metric: { a: '1' } }], { fromMs: 0, toMs: 30_000 }, 10_000);
  expect(columns.timesMs).toEqual([0, 10_000, 20_000, 30_000]);
  expect(columns.series).toEqual([
    { label: '{a="1"}', values: [1, null, null, null] },
    { label: '{a="1"} (2)', values: [null, null, null, null] },
  ]);
});

test.each([
  [formatCount(0), '0'],
  [formatCount(1234), '1.23k'],
  [formatCount(999.9), '1k'],
  [formatCount(-2_500_000), '-2.5M'],
  [formatCount(Number.NaN), '–'],
  [formatMs(0.0124), '12.4 µs'],
  [formatMs(842.6), '843 ms'],
  [formatMs(999.9), '1 s'],
  [formatMs(200_000), '3 min 20 s'],
  [formatMs(null), '–'],
  [formatRatio(0.074), '7.4 %'],
  [formatRatio(0.000001), '< 0.01 %'],
  [formatRatio(0), '0 %'],
  [formatBytes(1536), '1.5 KiB'],
])('%s', (written, expected) => expect(written).toBe(expected));
