/** The adapter to uPlot: the only file that knows it. It is loaded when the first chart is drawn. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { formatUnit, type Unit } from '../lib/units.ts';
import { wideIncrements } from '../lib/ticks.ts';
import type { RangeMs } from '../lib/time.ts';

export interface PlotOptions {
  readonly element: HTMLElement;
  readonly width: number;
  readonly height: number;
  readonly timesMs: readonly number[];
  readonly series: readonly { readonly label: string; readonly values: readonly (number | null)[]; readonly dashed?: boolean }[];
  readonly colours: readonly string[];
  readonly ink: { readonly text: string; readonly line: string; readonly critical: string };
  readonly unit: Unit;
  readonly threshold: number | null;
  readonly marks: readonly ChartMark[];
  readonly range: RangeMs | undefined;
  readonly onzoom: ((range: RangeMs) => void) | undefined;
  /** The point under the cursor, or -1. */
  readonly oncursor: (index: number) => void;
}

/** A moment at which something happened. */
export interface ChartMark {
  readonly atMs: number;
  readonly label: string;
}

/** A drag shorter than this is a click. */
const DRAG_MIN_PX = 6;

export function makePlot(options: PlotOptions): uPlot {
  const { element, width, height, timesMs, series, colours, ink, unit, threshold, marks, range, onzoom, oncursor } = options;
  const font = `12px ${getComputedStyle(element).fontFamily}`;
  const axis = { stroke: ink.text, font, grid: { stroke: ink.line, width: 1 }, ticks: { show: false } };
  const increments = wideIncrements(greatest(series.map(({ values }) => values), threshold));
  const made = new uPlot(
    {
      width,
      height,
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: {
        y: false,
        points: { size: 7, one: true },
        drag: { x: onzoom !== undefined, y: false, setScale: false },
      },
      scales: {
        x: { time: true, range: range ? () => [range.fromMs / 1000, range.toMs / 1000] : () => timeRange(timesMs) },
        y: { range: (_plot, low, high) => valueRange(low, high, threshold) },
      },
      axes: [
        { ...axis, space: 72, size: 30, values: (_plot, splits, _axis, _space, increment) => splits.map((seconds) => tickText(seconds, increment)) },
        {
          ...axis,
          size: 62,
          space: 36,
          ...(increments === null ? {} : { incrs: increments }),
          values: (_plot, splits) => splits.map((value) => (value === null ? '' : formatUnit(value, unit))),
        },
      ],
      series: [
        {},
        ...series.map((one, index) => ({
          label: one.label,
          stroke: colours[index] ?? ink.text,
          width: 1.5,
          points: { show: lonely(one.values), size: 4 },
          ...(one.dashed ? { dash: [5, 4] } : {}),
        })),
      ],
      hooks: {
        setCursor: [(plot) => oncursor(plot.cursor.idx ?? -1)],
        setSelect: [
          (plot) => {
            if (plot.select.width < DRAG_MIN_PX || onzoom === undefined) return;
            const fromMs = plot.posToVal(plot.select.left, 'x') * 1000;
            const toMs = plot.posToVal(plot.select.left + plot.select.width, 'x') * 1000;
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            onzoom({ fromMs, toMs });
          },
        ],
        draw: [
          (plot) => {
            if (threshold !== null) drawThreshold(plot, threshold, ink.critical);
            drawMarks(plot, marks, ink.text, font);
          },
        ],
      },
    },
    [timesMs.map((ms) => ms / 1000), ...series.map((one) => one.values as (number | null)[])],
    element,
  );
  // The figure around it has the name; the canvas is its picture.
  made.root.setAttribute('aria-hidden', 'true');
  return made;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** Local time as short as the distance between ticks allows; midnight is its day. */
function tickText(seconds: number, incrementSeconds: number): string {
  const date = new Date(seconds * 1000);
  const day = `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  if (incrementSeconds >= 86_400 || (date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0)) return day;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return incrementSeconds >= 60 ? clock : `${clock}:${two(date.getSeconds())}`;
}

/** In seconds. A single point stands in the middle of ten minutes; left alone the scale would span years. */
function timeRange(timesMs: readonly number[]): [number, number] {
  const [first, last] = [(timesMs[0] ?? 0) / 1000, (timesMs.at(-1) ?? 0) / 1000];
  return first < last ? [first, last] : [first - 300, first + 300];
}

/** From zero when the values allow it: a curve that starts at 98 % of its height lies. */
function valueRange(low: number | null, high: number | null, threshold: number | null): [number, number] {
  let bottom = Math.min(low ?? 0, threshold ?? Number.POSITIVE_INFINITY, 0);
  let top = Math.max(high ?? 1, threshold ?? Number.NEGATIVE_INFINITY);
  if (!Number.isFinite(bottom)) bottom = 0;
  if (top <= bottom) top = bottom + 1;
  return [bottom, top + (top - bottom) * 0.06];
}

function greatest(all: readonly (readonly (number | null)[])[], threshold: number | null): number {
  let top = Math.abs(threshold ?? 0);
  for (const values of all) {
    for (const value of values) if (value !== null && Number.isFinite(value)) top = Math.max(top, Math.abs(value));
  }
  return top;
}

/** Points without neighbours would not be seen as a line. */
function lonely(values: readonly (number | null)[]): boolean {
  let known = 0;
  let joined = 0;
  values.forEach((value, index) => {
    if (value === null) return;
    known += 1;
    if (index > 0 && values[index - 1] !== null) joined += 1;
  });
  return known > 0 && joined < known / 2;
}

function drawThreshold(plot: uPlot, threshold: number, colour: string): void {
  const y = plot.valToPos(threshold, 'y', true);
  const { ctx } = plot;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(plot.bbox.left, y);
  ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

/** Lines across, the newest first; a name that would stand on another is left out. */
function drawMarks(plot: uPlot, marks: readonly ChartMark[], colour: string, font: string): void {
  const { ctx, bbox } = plot;
  const gap = 4 * devicePixelRatio;
  const taken: [number, number][] = [];
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.font = font.replace(/^\d+/, (size) => String(Number(size) * devicePixelRatio));
  ctx.textAlign = 'left';
  ctx.textBaseline = 'top';
  for (const mark of marks.toSorted((one, other) => other.atMs - one.atMs)) {
    const x = plot.valToPos(mark.atMs / 1000, 'x', true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    // Near the right edge the name stands on the other side.
    const width = ctx.measureText(mark.label).width;
    const from = x + gap + width > bbox.left + bbox.width ? x - gap - width : x + gap;
    if (taken.some(([start, end]) => from < end + gap && from + width + gap > start)) continue;
    taken.push([from, from + width]);
    ctx.fillText(mark.label, from, bbox.top + gap);
  }
  ctx.restore();
}
