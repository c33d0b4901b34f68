/** The token that this tab sends, when the server wants one. It lives as long as the tab, and is in no URL. */

const KEY = 'bellrock.v1.token';
let held: string | null = null;

export function token(): string {
  if (held === null) {
    try {
      held = window.sessionStorage.getItem(KEY) ?? '';
    } catch {
      held = '';
    }
  }
  return held;
}

export function setToken(text: string): void {
  held = text;
  try {
    if (text === '') window.sessionStorage.removeItem(KEY);
    else window.sessionStorage.setItem(KEY, text);
  } catch {
    // A browser that keeps nothing asks again after a reload.
  }
}
