/** Which of the eight series colours a name has: the same for every viewer, and different for neighbours while eight are enough. */

export const SLOT_COUNT = 8;

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    value ^= text.charCodeAt(index);
    value = Math.imul(value, 0x01000193) >>> 0;
  }
  return value;
}

/** A slot for each name: by its hash, moved on when another name of this view has the slot. Depends on the set, not on its order. */
export function colourSlots(names: readonly string[]): Map<string, number> {
  const slots = new Map<string, number>();
  const used = new Array<number>(SLOT_COUNT).fill(0);
  for (const name of [...new Set(names)].sort()) {
    const wanted = hash(name) % SLOT_COUNT;
    const fewest = Math.min(...used);
    let slot = wanted;
    while ((used[slot] ?? 0) > fewest) slot = (slot + 1) % SLOT_COUNT;
    used[slot] = (used[slot] ?? 0) + 1;
    slots.set(name, slot);
  }
  return slots;
}

export type Level = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'unknown';

/** From the most to the least serious. */
export const LEVELS: readonly Level[] = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'unknown'];

/** The level that a logger's word means. */
export function levelOf(word: string | undefined): Level {
  switch ((word ?? '').trim().toLowerCase()) {
    case 'fatal':
    case 'critical':
    case 'crit':
    case 'alert':
    case 'emerg':
    case 'emergency':
    case 'panic':
      return 'fatal';
    case 'error':
    case 'err':
    case 'exception':
      return 'error';
    case 'warn':
    case 'warning':
      return 'warn';
    case 'info':
    case 'information':
    case 'informational':
    case 'notice':
      return 'info';
    case 'debug':
      return 'debug';
    case 'trace':
      return 'trace';
    default:
      return 'unknown';
  }
}
