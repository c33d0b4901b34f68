/** The URL is the state: pages read it here and write it here. */

import { href } from '../lib/links.ts';
import { routeOf, translateGraphQuery, type Route } from '../lib/routes.ts';
import { DEFAULT_RANGE, type RangeText } from '../lib/time.ts';

type Changes = Readonly<Record<string, string | number | boolean | null | undefined>>;

class Router {
  pathname = $state(window.location.pathname);
  search = $state.raw(new URLSearchParams(window.location.search));
  readonly route: Route = $derived(routeOf(this.pathname));

  constructor() {
    if (this.pathname === '/graph') this.go(href('/explore', Object.fromEntries(translateGraphQuery(this.search))), { replace: true });
    window.addEventListener('popstate', () => this.#read());
    document.addEventListener('click', (event) => this.#followLink(event));
  }

  param(name: string): string {
    return this.search.get(name) ?? '';
  }

  get range(): RangeText {
    return { from: this.param('from') || DEFAULT_RANGE.from, to: this.param('to') || DEFAULT_RANGE.to };
  }

  /** Changes parts of the query; a null, empty or false part is taken out. `replace` for what "back" should not undo. */
  set(changes: Changes, options: { readonly replace?: boolean } = {}): void {
    const search = new URLSearchParams(this.search);
    for (const [key, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === '' || value === false) search.delete(key);
      else search.set(key, value === true ? '1' : String(value));
    }
    const text = search.toString();
    if (text === this.search.toString()) return;
    this.go(text === '' ? this.pathname : `${this.pathname}?${text}`, options);
  }

  go(url: string, options: { readonly replace?: boolean } = {}): void {
    if (options.replace) window.history.replaceState(null, '', url);
    else window.history.pushState(null, '', url);
    const samePage = window.location.pathname === this.pathname;
    this.#read();
    if (!samePage) window.scrollTo(0, 0);
  }

  /** A link to another page that keeps the time range. */
  link(path: string, query: Readonly<Record<string, string | number | null | undefined>> = {}): string {
    return href(path, { ...this.carried(), ...query });
  }

  /** The parts of the query that go from page to page. */
  carried(): Record<string, string> {
    const kept: Record<string, string> = {};
    for (const key of ['from', 'to', 'refresh']) {
      const value = this.search.get(key);
      if (value) kept[key] = value;
    }
    return kept;
  }

  #read(): void {
    this.pathname = window.location.pathname;
    this.search = new URLSearchParams(window.location.search);
  }

  #followLink(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const anchor = event.target instanceof Element ? event.target.closest('a[href]') : null;
    if (!(anchor instanceof HTMLAnchorElement) || anchor.target !== '' || anchor.hasAttribute('download')) return;
    if (anchor.origin !== window.location.origin || routeOf(anchor.pathname).page === 'missing') return;
    if (anchor.hash !== '' && anchor.pathname === window.location.pathname) return;
    event.preventDefault();
    this.go(anchor.pathname + anchor.search);
  }
}

export const router = new Router();
