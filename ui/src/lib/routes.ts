/** Which page a path means. `crates/br_ui` answers these first segments with the shell, and nothing else. */

export type Route =
  | { readonly page: 'services' }
  | { readonly page: 'service'; readonly name: string }
  | { readonly page: 'explore' }
  | { readonly page: 'logs' }
  | { readonly page: 'traces' }
  | { readonly page: 'trace'; readonly id: string }
  | { readonly page: 'issues' }
  | { readonly page: 'issue'; readonly id: string }
  | { readonly page: 'alerts' }
  | { readonly page: 'alert'; readonly id: string }
  | { readonly page: 'incidents' }
  | { readonly page: 'incident'; readonly id: string }
  | { readonly page: 'missing' };

export function routeOf(pathname: string): Route {
  const parts = pathname.split('/').filter((part) => part !== '');
  const [first = 'services', second] = parts;
  if (parts.length > 2) return { page: 'missing' };
  const id = second === undefined ? undefined : decode(second);
  if (id === null) return { page: 'missing' };
  switch (first) {
    case 'services':
      return id === undefined ? { page: 'services' } : { page: 'service', name: id };
    case 'explore':
    case 'graph':
      return id === undefined ? { page: 'explore' } : { page: 'missing' };
    case 'logs':
      return id === undefined ? { page: 'logs' } : { page: 'missing' };
    case 'traces':
    case 'trace':
      return id === undefined ? { page: 'traces' } : { page: 'trace', id };
    case 'issues':
      return id === undefined ? { page: 'issues' } : { page: 'issue', id };
    case 'alerts':
      return id === undefined ? { page: 'alerts' } : { page: 'alert', id };
    case 'incidents':
      return id === undefined ? { page: 'incidents' } : { page: 'incident', id };
    default:
      return { page: 'missing' };
  }
}

function decode(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/** Links of Prometheus' own page (`/graph?g0.expr=…&g0.range_input=…`) stand in runbooks: they open the explorer. */
export function translateGraphQuery(search: URLSearchParams): URLSearchParams {
  const translated = new URLSearchParams();
  const expression = search.get('g0.expr');
  if (expression !== null) translated.set('q', expression);
  const range = search.get('g0.range_input');
  const end = search.get('g0.end_input') ?? search.get('g0.moment_input');
  if (range !== null && end === null) translated.set('from', `now-${range}`);
  return translated;
}
