/**
 * Serves ui/dist and deterministic answers of the documented shapes, for development and for screenshots. Never shipped.
 *
 *   node tests/fixture-server.mjs [--port 1811] [--scenario full|empty|error|slow|locked]
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as native from './fixture/native.mjs';
import { random } from './fixture/random.mjs';
import * as signals from './fixture/signals.mjs';
import { accept } from './fixture/websocket.mjs';

const ui = join(dirname(fileURLToPath(import.meta.url)), '..');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };

export async function startFixture({ port = 0, scenario = 'full', spans = 64 } = {}) {
  const policy = (await readFile(join(ui, 'content-security-policy.txt'), 'utf8')).trim();
  const server = createServer((request, response) => {
    void answer(request, response, scenario, spans, policy).catch((cause) => {
      response.writeHead(500, { 'content-type': 'text/plain' });
      response.end(String(cause));
    });
  });
  server.on('upgrade', (request, socket) => tail(request, socket, scenario));
  await new Promise((ready) => server.listen(port, '127.0.0.1', ready));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => (server.closeAllConnections(), server.close()) };
}

async function answer(request, response, scenario, spans, policy) {
  const url = new URL(request.url, 'http://fixture');
  const api = /^\/(api|loki|bellrock)\//.test(url.pathname);
  if (!api) return page(url.pathname, response, policy);
  if (scenario === 'slow') return;
  if (scenario === 'locked' && request.headers.authorization !== 'Bearer open sesame, please') {
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: { kind: 'unauthorized', message: 'no credential: send Authorization: Bearer TOKEN' } }));
    return;
  }
  const body = await bodyOf(request);
  const [status, answered] = scenario === 'error' ? [503, { error: { kind: 'retry', message: 'replay is at 41 % of the journal: 1 204 of 2 930 MB' } }] : route(url, body, scenario, spans);
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(answered));
}

async function bodyOf(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return text === '' ? {} : JSON.parse(text);
}

/** RFC 3339, Unix seconds, `now`, or hours back from now. */
function instant(text, fallback, now) {
  if (!text) return fallback;
  const back = /^(?:now)?-(\d+)h$/.exec(text);
  if (back) return now - Number(back[1]) * 3_600_000;
  if (text === 'now') return now;
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
}

const missing = [404, { error: { kind: 'not_found', message: 'nothing of this id is kept' } }];

function route(url, body, scenario, spans) {
  const query = url.searchParams;
  const now = Number(process.env.FIXTURE_NOW_MS ?? Date.now());
  const from = instant(query.get('from') ?? query.get('start'), now - 3_600_000, now);
  const to = instant(query.get('to') ?? query.get('end'), now, now);
  const empty = scenario === 'empty';
  const [, base, , kind, id, action] = url.pathname.split('/').map(decodeURIComponent);
  if (base === 'bellrock') return nativeRoute({ kind, id, action, query, body, from, to, now, empty, spans });
  if (base === 'loki') return lokiRoute(url, query, from, to, empty);
  const data = prometheus(url.pathname, query, from, to, empty);
  return data === null ? missing : [200, { status: 'success', data }];
}

function nativeRoute({ kind, id, action, query, body, from, to, now, empty, spans }) {
  const one = (value) => (value === null || value === undefined ? missing : [200, value]);
  switch (kind) {
    case 'status':
      return [200, { version: '0.1.0', started_at: new Date(now - 9e6).toISOString(), ready: true }];
    case 'services':
      return [200, { services: empty ? [] : native.services(from, to) }];
    case 'traces':
      if (id) return one(empty ? null : native.trace(id, to - 120_000, spans));
      return [200, { traces: empty ? [] : native.traces(from, to, query) }];
    case 'issues':
      if (id) return one(empty ? null : { ...native.issue(id, now), ...body });
      return [200, { issues: empty ? [] : native.issues(now, query.get('status')).filter((each) => !query.get('service') || each.service === query.get('service')) }];
    case 'alerts':
      if (id) return one(empty ? null : native.alert(id, now));
      return [200, { alerts: empty ? [] : native.alerts(now).filter((each) => !query.get('state') || each.state === query.get('state')) }];
    case 'incidents':
      if (action) native.act(action, body.by, body.text, now);
      if (id) return one(empty ? null : native.incident(id, now));
      return [200, { incidents: empty ? [] : native.incidents(now, query.get('state')) }];
    default:
      return missing;
  }
}

function lokiRoute(url, query, from, to, empty) {
  if (url.pathname.endsWith('/labels')) return [200, { status: 'success', data: ['deployment_environment', 'level', 'service_name'] }];
  if (url.pathname.endsWith('/values')) return [200, { status: 'success', data: ['checkout', 'payments', 'search'] }];
  const text = query.get('query') ?? '';
  if (text.includes('broken')) return [400, 'parse error at line 1, col 9: syntax error: unexpected IDENTIFIER, expecting }'];
  const step = Number(query.get('step') ?? 60) * 1000;
  if (!text.trimStart().startsWith('{')) return [200, { status: 'success', data: { resultType: 'matrix', result: empty ? [] : signals.volume(from, to, step) } }];
  return [200, { status: 'success', data: { resultType: 'streams', result: empty ? [] : signals.lines(from, to, Number(query.get('limit') ?? 100)) } }];
}

function prometheus(path, query, from, to, empty) {
  if (path.endsWith('/query_range')) return { resultType: 'matrix', result: empty ? [] : signals.queryRange(from, to, Number(query.get('step')) * 1000) };
  if (path.endsWith('/__name__/values')) return empty ? [] : Object.keys(signals.METRICS);
  if (path.endsWith('/rules')) return { groups: empty ? [] : signals.RULES };
  if (path.endsWith('/metadata')) return Object.fromEntries(Object.entries(signals.METRICS).map(([name, [type, help]]) => [name, [{ type, help, unit: '' }]]));
  if (path.endsWith('/labels')) return ['__name__', 'code', 'job', 'service_name'];
  if (path.endsWith('/values')) return ['200', '404', '500'];
  return null;
}

function tail(request, socket, scenario) {
  if (scenario === 'locked') {
    socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n');
    return;
  }
  const send = accept(request, socket);
  if (scenario !== 'full') return;
  const next = random(21);
  const rate = Number(new URL(request.url, 'http://fixture').searchParams.get('query')?.match(/rate_(\d+)/)?.[1] ?? 40);
  const timer = setInterval(() => {
    const now = Date.now();
    const streams = Array.from({ length: Math.max(1, Math.round(rate / 10)) }, () => signals.entry(next, now));
    send(JSON.stringify({ streams, dropped_entries: [] }));
  }, 100);
  socket.on('close', () => clearInterval(timer));
}

async function page(pathname, response, policy) {
  const file = /^\/_a\//.test(pathname) ? normalize(pathname) : '/index.html';
  let bytes;
  try {
    bytes = await readFile(join(ui, 'dist', file));
  } catch {
    response.writeHead(404);
    response.end();
    return;
  }
  response.writeHead(200, {
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    'content-security-policy': policy,
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-cache',
  });
  response.end(bytes);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const flag = (name, fallback) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : fallback);
  const { url } = await startFixture({ port: Number(flag('--port', '1811')), scenario: flag('--scenario', 'full'), spans: Number(flag('--spans', '64')) });
  console.log(`fixtures at ${url}`);
}
