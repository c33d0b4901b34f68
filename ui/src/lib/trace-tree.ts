/**
 * The layout of a trace's waterfall.
 *
 * Spans arrive in any order, with parents that never came, twice, or in a circle. They are kept as columns:
 * opening and closing a branch of a trace of 100 000 spans allocates one index array and nothing per row.
 */

export interface TreeSpan {
  readonly span_id: string;
  readonly parent_span_id: string | null;
  readonly offset_ms: number;
  readonly duration_ms: number;
}

export interface TraceTree {
  /** Span indexes in reading order: parents before children, children by start. */
  readonly order: Int32Array;
  /** By reading position: how deep a row is indented; roots are 0. */
  readonly depth: Uint16Array;
  /** By reading position: the first position after this row's branch. */
  readonly branchEnd: Int32Array;
  /** By reading position: the parent's position, or -1. */
  readonly parent: Int32Array;
  /** By reading position: 1 when the span names a parent that is not in the trace. */
  readonly orphan: Uint8Array;
}

const DEPTH_MAX = 65_535;

export function buildTree(spans: readonly TreeSpan[]): TraceTree {
  const count = spans.length;
  const starts = Float64Array.from(spans, ({ offset_ms }) => (Number.isFinite(offset_ms) ? offset_ms : 0));
  const parentOf = resolveParents(spans, starts);
  const { firstChild, nextSibling, roots } = linkChildren(starts, parentOf);
  const order = new Int32Array(count);
  const depth = new Uint16Array(count);
  const parent = new Int32Array(count).fill(-1);
  const orphan = new Uint8Array(count);
  const branchEnd = new Int32Array(count);
  const positionOf = new Int32Array(count);
  // Roots in reverse on the stack, so that the first is popped first.
  const stack: number[] = [];
  pushReversed(stack, roots);
  let position = 0;
  while (stack.length > 0) {
    const index = stack.pop() as number;
    const parentIndex = parentOf[index] ?? -1;
    const parentPosition = parentIndex < 0 ? -1 : (positionOf[parentIndex] as number);
    order[position] = index;
    positionOf[index] = position;
    parent[position] = parentPosition;
    depth[position] = parentPosition < 0 ? 0 : Math.min(DEPTH_MAX, (depth[parentPosition] as number) + 1);
    orphan[position] = parentIndex < 0 && spans[index]?.parent_span_id ? 1 : 0;
    position += 1;
    const children: number[] = [];
    for (let child = firstChild[index] as number; child >= 0; child = nextSibling[child] as number) children.push(child);
    pushReversed(stack, children);
  }
  // A branch ends where the last of its children's does: from the back, each row hands its end to its parent.
  for (let row = count - 1; row >= 0; row -= 1) {
    if (branchEnd[row] === 0) branchEnd[row] = row + 1;
    const above = parent[row] as number;
    if (above >= 0 && (branchEnd[above] as number) < (branchEnd[row] as number)) branchEnd[above] = branchEnd[row] as number;
  }
  return { order, depth, branchEnd, parent, orphan };
}

function pushReversed(stack: number[], items: readonly number[]): void {
  for (let index = items.length - 1; index >= 0; index -= 1) stack.push(items[index] as number);
}

/** Each span's parent as an index, -1 for none; a circle is cut at its earliest span. */
function resolveParents(spans: readonly TreeSpan[], starts: Float64Array): Int32Array {
  const indexOf = new Map<string, number>();
  spans.forEach((span, index) => {
    if (!indexOf.has(span.span_id)) indexOf.set(span.span_id, index);
  });
  const parentOf = new Int32Array(spans.length).fill(-1);
  spans.forEach((span, index) => {
    const found = span.parent_span_id ? indexOf.get(span.parent_span_id) : undefined;
    if (found !== undefined && found !== index) parentOf[index] = found;
  });
  // 0 unseen, 1 on the path being walked, 2 known to reach a root.
  const state = new Uint8Array(spans.length);
  for (let start = 0; start < spans.length; start += 1) {
    const walked: number[] = [];
    let index = start;
    while (index >= 0 && state[index] === 0) {
      state[index] = 1;
      walked.push(index);
      index = parentOf[index] as number;
    }
    if (index >= 0 && state[index] === 1) {
      const circle = walked.slice(walked.indexOf(index));
      const earliest = circle.reduce((best, each) => ((starts[each] as number) < (starts[best] as number) ? each : best));
      parentOf[earliest] = -1;
    }
    for (const each of walked) state[each] = 2;
  }
  return parentOf;
}

function linkChildren(starts: Float64Array, parentOf: Int32Array) {
  const byStart = Int32Array.from(starts.keys()).sort((a, b) => (starts[a] as number) - (starts[b] as number) || a - b);
  const firstChild = new Int32Array(starts.length).fill(-1);
  const lastChild = new Int32Array(starts.length).fill(-1);
  const nextSibling = new Int32Array(starts.length).fill(-1);
  const roots: number[] = [];
  for (const index of byStart) {
    const parent = parentOf[index] as number;
    if (parent < 0) {
      roots.push(index);
      continue;
    }
    const last = lastChild[parent] as number;
    if (last < 0) firstChild[parent] = index;
    else nextSibling[last] = index;
    lastChild[parent] = index;
  }
  return { firstChild, nextSibling, roots };
}

/** The positions that show when the branches in `closed` are closed and, with `matches`, only matching rows and what leads to them. */
export function visibleRows(tree: TraceTree, closed: ReadonlySet<number>, matches: ((spanIndex: number) => boolean) | null): Int32Array {
  const keep = matches === null ? null : keepWithAncestors(tree, matches);
  const rows = new Int32Array(tree.order.length);
  let count = 0;
  let row = 0;
  while (row < tree.order.length) {
    if (keep !== null && keep[row] === 0) {
      row += 1;
      continue;
    }
    rows[count] = row;
    count += 1;
    row = closed.has(row) ? (tree.branchEnd[row] as number) : row + 1;
  }
  return rows.subarray(0, count);
}

function keepWithAncestors(tree: TraceTree, matches: (spanIndex: number) => boolean): Uint8Array {
  const keep = new Uint8Array(tree.order.length);
  for (let row = tree.order.length - 1; row >= 0; row -= 1) {
    if (keep[row] === 0 && matches(tree.order[row] as number)) keep[row] = 1;
    const above = tree.parent[row] as number;
    if (keep[row] === 1 && above >= 0) keep[above] = 1;
  }
  return keep;
}

export function hasChildren(tree: TraceTree, row: number): boolean {
  return (tree.branchEnd[row] ?? 0) > row + 1;
}

/** How long each span worked itself: its duration without the parts its children cover. By span index, milliseconds. */
export function selfTimes(spans: readonly TreeSpan[], tree: TraceTree): Float64Array {
  const self = Float64Array.from(spans, (span) => Math.max(0, span.duration_ms));
  // Reading order hands each parent its children by start, so covered time is one sweep per parent.
  const coveredUntil = new Float64Array(tree.order.length).fill(Number.NEGATIVE_INFINITY);
  for (let row = 0; row < tree.order.length; row += 1) {
    const above = tree.parent[row] as number;
    if (above < 0) continue;
    const child = spans[tree.order[row] as number] as TreeSpan;
    const parentIndex = tree.order[above] as number;
    const owner = spans[parentIndex] as TreeSpan;
    const start = Math.max(child.offset_ms, owner.offset_ms, coveredUntil[above] as number);
    const end = Math.min(child.offset_ms + child.duration_ms, owner.offset_ms + owner.duration_ms);
    if (end <= start) continue;
    self[parentIndex] = Math.max(0, (self[parentIndex] as number) - (end - start));
    coveredUntil[above] = end;
  }
  return self;
}
