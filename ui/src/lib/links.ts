/** Which texts of telemetry may become links. */

/** The address when it is absolute http or https, without a user or password in it; null for everything else. */
export function safeHttpUrl(text: unknown): string | null {
  if (typeof text !== 'string' || text.length > 2048) return null;
  const trimmed = text.trim();
  if (!/^https?:\/\//i.test(trimmed)) return null;
  let url: URL;
  try {
    url = new URL(trimmed);
  } catch {
    return null;
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return null;
  // `https://bank.example@evil.example` shows one host and opens another.
  if (url.username !== '' || url.password !== '') return null;
  return url.href;
}

/** A trace id in hexadecimal, of 16 or 32 digits. */
export function isTraceId(text: unknown): text is string {
  return typeof text === 'string' && /^(?:[0-9a-f]{16}|[0-9a-f]{32})$/i.test(text) && !/^0+$/.test(text);
}

/** A path with its query; pairs without a value are left out. */
export function href(path: string, query: Readonly<Record<string, string | number | null | undefined>> = {}): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') search.set(key, String(value));
  }
  const text = search.toString();
  return text === '' ? path : `${path}?${text}`;
}

/** A path from parts that may hold anything. */
export function path(...parts: string[]): string {
  return `/${parts.map((part) => encodeURIComponent(part)).join('/')}`;
}
