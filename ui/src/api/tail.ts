/**
 * A live tail that survives cut connections: it resumes at the last line it saw and drops what it saw before.
 * Where no WebSocket gets through, as with some proxies and with a token (a browser sends none along), it asks again and again instead.
 */

import { linesOf, type LogLine, type LokiStream } from '../lib/logs.ts';
import { compareNanos, nanosToMs } from '../lib/nanos.ts';
import { token } from '../state/session.ts';
import { logs, tailAddress } from './client.ts';

export type TailState = 'connecting' | 'live' | 'reconnecting' | 'refused';

export interface TailEvents {
  /** Oldest first. */
  readonly lines: (lines: readonly LogLine[]) => void;
  /** Lines that the server says it did not send. */
  readonly dropped: (count: number) => void;
  readonly state: (state: TailState, detail: string) => void;
}

interface TailMessage {
  readonly streams?: readonly LokiStream[] | null;
  readonly dropped_entries?: readonly unknown[] | null;
  /** How many, where the server says so: the entries may be fewer. */
  readonly dropped_count?: number;
}

const BACKOFF_MS: readonly number[] = [500, 1_000, 2_000, 5_000, 10_000];
/** After so many connections that never opened it polls. */
const ATTEMPTS_MAX = 3;
const POLL_INTERVAL_MS = 1_000;
const LINES_PER_REQUEST = 1_000;

export class Tail {
  readonly #query: string;
  readonly #events: TailEvents;
  readonly #cancel = new AbortController();
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastNanos: string;
  /** Lines at exactly `#lastNanos`: those a resumed tail sends again. */
  #seenAtLast = new Set<string>();
  #failures = 0;
  #opened = false;

  constructor(query: string, startNanos: string, events: TailEvents) {
    this.#query = query;
    this.#events = events;
    this.#lastNanos = startNanos;
    this.#events.state('connecting', '');
    if (token() === '') this.#connect();
    else void this.#poll();
  }

  close(): void {
    this.#cancel.abort();
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
  }

  #connect(): void {
    const socket = new WebSocket(tailAddress(this.#query, this.#lastNanos, LINES_PER_REQUEST));
    this.#socket = socket;
    socket.onopen = () => {
      this.#opened = true;
      this.#failures = 0;
      this.#events.state('live', '');
    };
    socket.onmessage = (message: MessageEvent<unknown>) => {
      if (typeof message.data === 'string') this.#receive(message.data);
    };
    socket.onclose = (event) => this.#reconnect(event.reason);
  }

  #receive(text: string): void {
    let message: TailMessage;
    try {
      message = JSON.parse(text) as TailMessage;
    } catch {
      this.#events.state('live', 'one message was not readable and is left out');
      return;
    }
    this.#take(linesOf(message.streams ?? []));
    const dropped = message.dropped_count ?? message.dropped_entries?.length ?? 0;
    if (dropped > 0) this.#events.dropped(dropped);
  }

  /** Newest first, as answers are. */
  #take(lines: readonly LogLine[]): void {
    const fresh = [...lines].reverse().filter((line) => this.#isFresh(line));
    if (fresh.length > 0) this.#events.lines(fresh);
  }

  #isFresh(line: LogLine): boolean {
    const order = compareNanos(line.nanos, this.#lastNanos);
    const identity = `${line.line}\u0000${JSON.stringify(line.labels)}`;
    if (order > 0) {
      this.#lastNanos = line.nanos;
      this.#seenAtLast = new Set([identity]);
      return true;
    }
    // Late lines are lines too; only an exact repetition at the seam is not.
    if (order < 0) return true;
    if (this.#seenAtLast.has(identity)) return false;
    this.#seenAtLast.add(identity);
    return true;
  }

  #reconnect(reason: string): void {
    if (this.#cancel.signal.aborted) return;
    this.#failures += 1;
    if (!this.#opened && this.#failures >= ATTEMPTS_MAX) {
      void this.#poll();
      return;
    }
    this.#events.state(this.#opened ? 'reconnecting' : 'connecting', reason);
    const wait = BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length) - 1] ?? 10_000;
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  /** One question a second for what came since the last line. */
  async #poll(): Promise<void> {
    try {
      const range = { fromMs: nanosToMs(this.#lastNanos), toMs: Date.now() + 60_000 };
      const answer = await logs(this.#query, range, { limit: LINES_PER_REQUEST, signal: this.#cancel.signal });
      this.#events.state('live', 'asked every second, as no WebSocket gets through');
      if (answer.kind === 'lines') {
        this.#take(answer.lines.filter((line) => compareNanos(line.nanos, this.#lastNanos) >= 0));
        if (answer.lines.length >= LINES_PER_REQUEST) this.#events.state('live', `only the newest ${LINES_PER_REQUEST} lines of each second are shown, as no WebSocket gets through`);
      }
      this.#failures = 0;
    } catch (cause) {
      if (this.#cancel.signal.aborted) return;
      this.#failures += 1;
      this.#events.state('refused', cause instanceof Error ? cause.message : String(cause));
    }
    const wait = this.#failures === 0 ? POLL_INTERVAL_MS : (BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length) - 1] ?? 10_000);
    this.#timer = setTimeout(() => void this.#poll(), wait);
  }
}
