/** What a person is about to write in a PromQL or LogQL text, and what fits there. Names come from the server; this only looks at the text. */

export type Language = 'promql' | 'logql';

export type Place =
  | { readonly kind: 'expression' }
  | { readonly kind: 'label'; readonly metric: string }
  | { readonly kind: 'value'; readonly metric: string; readonly label: string }
  | { readonly kind: 'none' };

export interface Completion {
  readonly place: Place;
  /** What is already written of the word. */
  readonly prefix: string;
  /** The word's range in the text; `end` is not included. */
  readonly start: number;
  readonly end: number;
}

const WORD = /[a-zA-Z0-9_:]/;

/** Looks at the text left of the cursor. */
export function completionAt(text: string, cursor: number): Completion {
  const scan = scanTo(text, cursor);
  if (scan.stringStart >= 0) {
    const label = scan.inBraces ? labelBefore(text, scan.stringStart) : null;
    const start = scan.stringStart + 1;
    const place: Place = label === null ? { kind: 'none' } : { kind: 'value', metric: scan.metric, label };
    let end = cursor;
    while (end < text.length && text[end] !== '"' && text[end] !== '\n') end += 1;
    return { place, prefix: text.slice(start, cursor), start, end };
  }
  let start = cursor;
  while (start > 0 && WORD.test(text[start - 1] ?? '')) start -= 1;
  let end = cursor;
  while (end < text.length && WORD.test(text[end] ?? '')) end += 1;
  const prefix = text.slice(start, cursor);
  if (scan.inBrackets || /^\d/.test(prefix)) return { place: { kind: 'none' }, prefix, start, end };
  const grouping = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*$/.test(text.slice(0, start));
  if (scan.inBraces || grouping) return { place: { kind: 'label', metric: scan.metric }, prefix, start, end };
  return { place: { kind: 'expression' }, prefix, start, end };
}

function scanTo(text: string, cursor: number) {
  let stringStart = -1;
  let delimiter = '';
  let inBraces = false;
  let inBrackets = false;
  let metric = '';
  let word = '';
  for (let index = 0; index < cursor; index += 1) {
    const character = text[index] ?? '';
    if (stringStart >= 0) {
      if (character === '\\' && delimiter !== '`') index += 1;
      else if (character === delimiter) stringStart = -1;
      continue;
    }
    if (character === '"' || character === "'" || character === '`') {
      stringStart = index;
      delimiter = character;
    } else if (character === '{') {
      inBraces = true;
      metric = word;
    } else if (character === '}') inBraces = false;
    else if (character === '[') inBrackets = true;
    else if (character === ']') inBrackets = false;
    if (WORD.test(character)) word += character;
    else if (!/\s/.test(character)) word = '';
    else if (word !== '' && !/^\s*\{/.test(text.slice(index))) word = '';
  }
  return { stringStart, inBraces, inBrackets, metric };
}

/** The label whose value begins at a quote: `code=~"` gives `code`. */
function labelBefore(text: string, quoteIndex: number): string | null {
  return /([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*$/.exec(text.slice(0, quoteIndex))?.[1] ?? null;
}

export const PROMQL_WORDS: readonly string[] = (
  'abs absent absent_over_time avg avg_over_time bottomk ceil changes clamp clamp_max clamp_min count count_over_time count_values ' +
  'day_of_month day_of_week day_of_year days_in_month delta deriv double_exponential_smoothing exp floor group histogram_avg histogram_count ' +
  'histogram_fraction histogram_quantile histogram_stddev histogram_stdvar histogram_sum hour idelta increase info irate label_join label_replace ' +
  'last_over_time limitk limit_ratio ln log10 log2 mad_over_time max max_over_time min min_over_time minute month pi predict_linear present_over_time ' +
  'quantile quantile_over_time rate resets round scalar sgn sort sort_by_label sort_by_label_desc sort_desc sqrt stddev stddev_over_time stdvar ' +
  'stdvar_over_time sum sum_over_time time timestamp topk vector year'
).split(' ');

export const LOGQL_WORDS: readonly string[] = (
  'json logfmt pattern regexp unpack line_format label_format decolorize drop keep unwrap rate count_over_time bytes_over_time bytes_rate ' +
  'absent_over_time sum_over_time avg_over_time max_over_time min_over_time quantile_over_time first_over_time last_over_time sum avg min max ' +
  'count topk bottomk sort sort_desc'
).split(' ');

/** At most `limit` of the words that go with the prefix: those that begin with it, then those that hold it, then those that hold its letters in order. */
export function rank(words: readonly string[], prefix: string, limit = 40): string[] {
  const wanted = prefix.toLowerCase();
  if (wanted === '') return words.slice(0, limit);
  const scored: { readonly word: string; readonly score: number }[] = [];
  for (const word of words) {
    const lower = word.toLowerCase();
    const at = lower.indexOf(wanted);
    const score = at === 0 ? 0 : at > 0 ? 1 : holdsInOrder(lower, wanted) ? 2 : 3;
    if (score < 3) scored.push({ word, score });
  }
  scored.sort((a, b) => a.score - b.score || a.word.length - b.word.length || (a.word < b.word ? -1 : 1));
  return scored.slice(0, limit).map(({ word }) => word);
}

function holdsInOrder(word: string, letters: string): boolean {
  let at = 0;
  for (const letter of letters) {
    at = word.indexOf(letter, at) + 1;
    if (at === 0) return false;
  }
  return true;
}
