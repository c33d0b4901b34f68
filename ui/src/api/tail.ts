/** A live tail that survives cut connections: it resumes at the last line it saw and drops what it saw before. */

import { linesOf, type LogLine, type LokiStream } from '../lib/logs.ts';
import { compareNanos } from '../lib/nanos.ts';
import { tailAddress } from './client.ts';

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
}

const BACKOFF_MS: readonly number[] = [500, 1_000, 2_000, 5_000, 10_000];
/** A connection that fails this often without ever opening is refused: the query is wrong, or the server has no tail. */
const ATTEMPTS_MAX = 4;
const LINES_PER_REQUEST = 1000;

export class Tail {
  readonly #query: string;
  readonly #events: TailEvents;
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastNanos: string;
  /** Lines at exactly `#lastNanos`: those a resumed tail sends again. */
  #seenAtLast = new Set<string>();
  #failures = 0;
  #opened = false;
  #closed = false;

  constructor(query: string, startNanos: string, events: TailEvents) {
    this.#query = query;
    this.#events = events;
    this.#lastNanos = startNanos;
    this.#connect();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
  }

  #connect(): void {
    this.#events.state(this.#opened ? 'reconnecting' : 'connecting', '');
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
    const fresh = linesOf(message.streams ?? []).reverse().filter((line) => this.#isFresh(line));
    if (fresh.length > 0) this.#events.lines(fresh);
    const dropped = message.dropped_entries?.length ?? 0;
    if (dropped > 0) this.#events.dropped(dropped);
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
    if (this.#closed) return;
    this.#failures += 1;
    if (!this.#opened && this.#failures >= ATTEMPTS_MAX) {
      this.#events.state('refused', reason);
      return;
    }
    this.#events.state(this.#opened ? 'reconnecting' : 'connecting', reason);
    const wait = BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length) - 1] ?? 10_000;
    this.#timer = setTimeout(() => this.#connect(), wait);
  }
}
