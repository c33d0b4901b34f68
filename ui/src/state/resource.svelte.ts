/** Something that a page asks of the server: what it holds, whether it is being asked again, what went wrong last. */

import { untrack } from 'svelte';
import { ApiError } from '../api/client.ts';

/** A server that starts or is out of reach is asked again after this time, by itself. */
const RETRY_AFTER_MS = 5_000;

export class Resource<T> {
  /** The last good answer; it stays while the next is on its way, and when that fails. */
  data: T | undefined = $state.raw(undefined);
  error: ApiError | null = $state.raw(null);
  loading = $state(false);

  set(data: T): void {
    this.data = data;
    this.error = null;
  }
}

/**
 * Asks now and whenever something that `ask` reads changes before its first await. The question before is cancelled.
 * `identity` names what is asked for: when it changes the old answer is about something else, and goes.
 */
export function resource<T>(ask: (signal: AbortSignal) => Promise<T> | null, identity: () => string = () => ''): Resource<T> {
  const held = new Resource<T>();
  let heldIdentity = '';
  let attempt = $state(0);
  $effect(() => {
    void attempt;
    let retry: ReturnType<typeof setTimeout> | undefined;
    const cancel = new AbortController();
    const wanted = identity();
    const answer = ask(cancel.signal);
    untrack(() => {
      if (wanted !== heldIdentity) {
        held.data = undefined;
        held.error = null;
        heldIdentity = wanted;
      }
      held.loading = answer !== null;
    });
    answer?.then(
      (data) => {
        if (cancel.signal.aborted) return;
        held.set(data);
        held.loading = false;
      },
      (cause: unknown) => {
        if (cancel.signal.aborted) return;
        held.error = cause instanceof ApiError ? cause : new ApiError('server', 0, String(cause));
        held.loading = false;
        if (held.error.kind === 'network' || held.error.kind === 'unavailable') retry = setTimeout(() => (attempt += 1), RETRY_AFTER_MS);
      },
    );
    return () => {
      cancel.abort();
      clearTimeout(retry);
    };
  });
  return held;
}
