/** A list that keeps its newest items and counts what it let go. */
export class Ring<T> {
  readonly capacity: number;
  #items: T[];
  #start = 0;
  #length = 0;
  #dropped = 0;

  constructor(capacity: number) {
    this.capacity = Math.max(1, capacity);
    this.#items = new Array<T>(this.capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** How many items made room for newer ones. */
  get dropped(): number {
    return this.#dropped;
  }

  push(item: T): void {
    if (this.#length < this.capacity) {
      this.#items[(this.#start + this.#length) % this.capacity] = item;
      this.#length += 1;
      return;
    }
    this.#items[this.#start] = item;
    this.#start = (this.#start + 1) % this.capacity;
    this.#dropped += 1;
  }

  /** Item `index` counted from the newest, 0 first; undefined outside. */
  fromNewest(index: number): T | undefined {
    if (index < 0 || index >= this.#length) return undefined;
    return this.#items[(this.#start + this.#length - 1 - index) % this.capacity];
  }

  clear(): void {
    this.#items = new Array<T>(this.capacity);
    this.#start = 0;
    this.#length = 0;
    this.#dropped = 0;
  }
}
