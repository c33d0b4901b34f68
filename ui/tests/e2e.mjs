/**
 * Walks through all pages of a running server and takes a picture of each. Fails on any uncaught error, console error,
 * violation of the content security policy, failed request, and on a page that shows an error or is wider than a phone.
 *
 *   BELLROCK_URL=http://127.0.0.1:1811 node tests/e2e.mjs FOLDER
 *
 * Pages of one thing (a service, a trace, an issue, an alert, an incident) are visited when the server has one.
 * Needs playwright-core and a Chromium (BELLROCK_CHROMIUM, CHROMIUM, or /usr/bin/chromium).
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openBrowser, PHONE, settled, watch, WIDE } from './browser.mjs';

const base = (process.env.BELLROCK_URL ?? '').replace(/\/$/, '');
if (base === '') {
  console.error('BELLROCK_URL is not set: the address of a running server');
  process.exit(2);
}
const folder = process.argv[2] ?? 'target/ui-e2e';
await mkdir(folder, { recursive: true });

const setups = [
  { name: 'wide-light', viewport: WIDE, colorScheme: 'light' },
  { name: 'phone-dark', viewport: PHONE, colorScheme: 'dark', phone: true },
];
const failures = [];
const things = await firstOfEach();

for (const setup of setups) {
  const browser = await openBrowser(setup);
  for (const visit of visits()) await run(browser.context, setup, visit);
  await browser.close();
}

for (const failure of failures) console.error(failure);
console.log(failures.length === 0 ? `every page is in order; pictures are in ${folder}` : `${failures.length} failures`);
process.exitCode = failures.length === 0 ? 0 : 1;

/** The first service, trace and so on that the server names, or null. */
async function firstOfEach() {
  const day = 'from=-24h&to=now';
  const first = async (path, pick) => {
    const response = await fetch(`${base}/bellrock/v1/${path}`);
    if (!response.ok) {
      failures.push(`GET /bellrock/v1/${path} answers ${response.status}: ${(await response.text()).slice(0, 300)}`);
      return null;
    }
    return pick(await response.json()) ?? null;
  };
  return {
    service: await first(`services?${day}`, (body) => body.services?.[0]?.name),
    trace: await first(`traces?${day}&limit=5`, (body) => body.traces?.toSorted((a, b) => b.spans - a.spans)[0]?.trace_id),
    issue: await first('issues?limit=1', (body) => body.issues?.[0]?.id),
    alert: await first('alerts', (body) => body.alerts?.[0]?.id),
    incident: await first('incidents', (body) => body.incidents?.[0]?.id),
  };
}

function visits() {
  const day = '?from=now-24h';
  const encoded = (thing) => encodeURIComponent(String(thing));
  const always = [
    { name: 'services', path: `/${day}` },
    { name: 'metrics', path: `/explore${day}`, then: explore },
    { name: 'logs', path: `/logs${day}`, then: openLine },
    { name: 'live', path: '/logs?live=1', then: followLive },
    { name: 'traces', path: `/traces${day}`, then: searchTraces },
    { name: 'issues', path: '/issues' },
    { name: 'alerts', path: '/alerts', then: switchTabs },
    { name: 'rules', path: '/alerts?state=rules' },
    { name: 'incidents', path: '/incidents' },
    { name: 'missing', path: '/services/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E' },
  ];
  const single = [
    things.service && { name: 'service', path: `/services/${encoded(things.service)}${day}` },
    things.trace && { name: 'trace', path: `/traces/${encoded(things.trace)}`, then: walkTrace },
    things.issue && { name: 'issue', path: `/issues/${encoded(things.issue)}` },
    things.alert && { name: 'alert', path: `/alerts/${encoded(things.alert)}` },
    things.incident && { name: 'incident', path: `/incidents/${encoded(things.incident)}` },
  ];
  return [...always, ...single.filter(Boolean)];
}

async function run(context, setup, { name, path, then }) {
  const page = await context.newPage();
  const complaints = watch(page);
  page.on('response', (response) => {
    if (response.status() >= 400) complaints.push(`${response.request().method()} ${response.url()} answers ${response.status()}`);
  });
  page.on('dialog', (dialog) => {
    complaints.push(`a dialog: telemetry was run as script (${dialog.message()})`);
    void dialog.dismiss();
  });
  try {
    const response = await page.goto(base + path);
    if (!response?.headers()['content-security-policy']?.includes("script-src 'self'")) complaints.push('the page has no strict content security policy');
    await settled(page);
    if (then) await then(page);
    await settled(page);
    for (const shown of await page.locator('[role=alert]').allInnerTexts()) complaints.push(`the page shows: ${shown.replace(/\s+/g, ' ')}`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (overflow > 0) complaints.push(`${overflow} px wider than the screen`);
  } catch (cause) {
    complaints.push(String(cause));
  }
  await page.screenshot({ path: join(folder, `${setup.name}-${name}.png`) });
  await page.close();
  for (const complaint of complaints) failures.push(`${setup.name} ${name}: ${complaint}`);
}

/** Opens the first metric of the list, or asks for one that is always there. */
async function explore(page) {
  const metric = page.locator('th a').first();
  if ((await metric.count()) > 0) {
    await metric.click();
  } else {
    await page.locator('textarea').fill('vector(1)');
    await page.locator('textarea').press('Enter');
  }
  await page.waitForURL(/[?&]q=/);
  await settled(page);
  const table = page.getByRole('button', { name: 'Table' });
  if ((await table.count()) > 0) await table.click();
}

async function openLine(page) {
  const line = page.locator('[data-row="0"]');
  if ((await line.count()) === 0) return;
  await line.click();
  await page.getByText('Labels and attributes').waitFor();
  await line.press('ArrowDown');
}

/** A tail that opens says so; without a WebSocket it would say that it cannot. */
async function followLive(page) {
  await page.locator('[role=status]', { hasText: 'Live' }).waitFor({ timeout: 15_000 });
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.locator('[role=status]', { hasText: 'Paused' }).waitFor();
  await page.getByRole('button', { name: 'Resume' }).click();
}

async function searchTraces(page) {
  const summary = page.getByText('Search', { exact: true }).first();
  if (!(await page.locator('input[name=min]').isVisible())) await summary.click();
  await page.locator('input[name=min]').fill('0ms');
  await page.getByRole('button', { name: 'Search' }).click();
  await page.waitForURL(/min=0ms/);
}

async function switchTabs(page) {
  await page.getByRole('link', { name: 'Resolved' }).click();
  await page.waitForURL(/state=resolved/);
}

/** By keyboard: close and open the root, open the next span's details. */
async function walkTrace(page) {
  const first = page.locator('[data-place="0"]');
  await first.focus();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.locator('aside[aria-label^="Span"]').waitFor();
}
