/** What this browser remembers: the name under which its person acknowledges. A broken store is the same as an empty one. */

const KEY = 'bellrock.v1.name';

export function rememberedName(): string {
  try {
    return window.localStorage.getItem(KEY)?.slice(0, 100) ?? '';
  } catch {
    return '';
  }
}

export function rememberName(name: string): void {
  try {
    window.localStorage.setItem(KEY, name.slice(0, 100));
  } catch {
    // A browser that keeps nothing asks again next time.
  }
}
