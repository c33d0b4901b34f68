/** The moment that the pages show: it moves on reload and on automatic refresh, never by itself under the reader's eyes. */

import { parseDuration, resolveRange, type RangeMs } from '../lib/time.ts';
import { router } from './router.svelte.ts';

class Clock {
  /** The `now` that relative ranges refer to. */
  nowMs = $state(Date.now());
  #resolved = $derived(resolveRange(router.range, this.nowMs));
  readonly rangeError: string | null = $derived('error' in this.#resolved ? this.#resolved.error : null);
  #lastGood: RangeMs = { fromMs: Date.now() - 3_600_000, toMs: Date.now() };

  /** The range of the page; the last good one while the URL holds none. */
  readonly range: RangeMs = $derived.by(() => {
    if (!('error' in this.#resolved)) this.#lastGood = this.#resolved;
    return this.#lastGood;
  });

  refresh(): void {
    this.nowMs = Date.now();
  }
}

export const clock = new Clock();

/** Pages that tell what is wrong now keep themselves current unless the reader turns that off. */
const WATCHING_PAGES: readonly string[] = ['alerts', 'alert', 'incidents', 'incident'];

/** `15s`, or `off`. */
export function refreshChoice(): string {
  return router.param('refresh') || (WATCHING_PAGES.includes(router.route.page) ? '30s' : 'off');
}

/** The interval of automatic refresh in milliseconds, or null. */
export function refreshInterval(): number | null {
  const duration = parseDuration(refreshChoice());
  return duration === null || duration < 1_000 ? null : duration;
}

export const REFRESH_CHOICES: readonly string[] = ['5s', '10s', '30s', '1m', '5m'];
