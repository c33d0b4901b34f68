/** Which rows of a long list stand in the document. Rows have one height; one of them may be open and taller. */

export interface ListLayout {
  readonly rowCount: number;
  readonly rowHeight: number;
  /** The open row, or -1. */
  readonly openRow: number;
  /** What the open row adds below itself, in pixels. */
  readonly openHeight: number;
}

/** Browsers cap the height of an element at 16 to 33 million pixels. */
const HEIGHT_MAX = 8_000_000;

/** The height of the whole list, as far as a browser can scroll. */
export function listHeight(layout: ListLayout): number {
  return Math.min(HEIGHT_MAX, trueHeight(layout));
}

function trueHeight(layout: ListLayout): number {
  return layout.rowCount * layout.rowHeight + (layout.openRow >= 0 ? layout.openHeight : 0);
}

/** Where a row's top is, in the unscaled list. */
function rowTop(layout: ListLayout, row: number): number {
  return row * layout.rowHeight + (layout.openRow >= 0 && row > layout.openRow ? layout.openHeight : 0);
}

export interface Window {
  readonly first: number;
  /** Not included. */
  readonly end: number;
  /** Where the first row is drawn, in pixels of the scrolled element. */
  readonly top: number;
}

/** The rows in sight and some beyond. */
export function windowOf(layout: ListLayout, scrollTop: number, viewHeight: number, overscan = 8): Window {
  if (layout.rowCount === 0) return { first: 0, end: 0, top: 0 };
  const whole = trueHeight(layout);
  const shown = listHeight(layout);
  // A list taller than the cap maps the scroll bar's share to the list's share.
  const scale = shown < whole ? (whole - viewHeight) / Math.max(1, shown - viewHeight) : 1;
  const position = Math.max(0, Math.min(scrollTop * scale, Math.max(0, whole - viewHeight)));
  const first = Math.max(0, rowAt(layout, position) - overscan);
  const end = Math.min(layout.rowCount, rowAt(layout, position + viewHeight) + 1 + overscan);
  return { first, end, top: rowTop(layout, first) - position + scrollTop };
}

function rowAt(layout: ListLayout, y: number): number {
  const { openRow, openHeight, rowHeight, rowCount } = layout;
  const openBottom = (openRow + 1) * rowHeight + openHeight;
  const plain =
    openRow < 0 || y < (openRow + 1) * rowHeight ? y : y < openBottom ? openRow * rowHeight : y - openHeight;
  return Math.max(0, Math.min(rowCount - 1, Math.floor(plain / rowHeight)));
}

/** The scroll position that brings a row into sight, or null when it is. */
export function scrollToRow(layout: ListLayout, row: number, scrollTop: number, viewHeight: number): number | null {
  const whole = trueHeight(layout);
  const shown = listHeight(layout);
  const scale = shown < whole ? (whole - viewHeight) / Math.max(1, shown - viewHeight) : 1;
  const position = scrollTop * scale;
  const top = rowTop(layout, row);
  if (top < position) return top / scale;
  if (top + layout.rowHeight > position + viewHeight) return (top + layout.rowHeight - viewHeight) / scale;
  return null;
}
