/**
 * Pictures of every page against the fixtures, in both themes, wide and on a phone, with data, without, and with a failing server.
 * Fails on any console error, any violation of the content security policy and any finding of axe.
 *
 *   node tests/screenshots.mjs FOLDER [NAME…]
 */
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { openBrowser, PHONE, settled, watch, WIDE } from './browser.mjs';
import { ALERT_ID, INCIDENT_ID, TRACE_ID } from './fixture/native.mjs';
import { startFixture } from './fixture-server.mjs';

const [folder = '/tmp/bellrock-ui-shots', ...only] = process.argv.slice(2);
const query = encodeURIComponent('sum by (service_name, code) (rate(http_requests_total[5m]))');
const PAGES = {
  services: '/services',
  service: '/services/checkout',
  metrics: '/explore',
  explore: `/explore?q=${query}`,
  logs: '/logs',
  live: '/logs?live=1',
  traces: '/traces',
  trace: `/traces/${TRACE_ID}`,
  issues: '/issues',
  issue: '/issues/1',
  alerts: '/alerts',
  rules: '/alerts?state=rules',
  alert: `/alerts/${ALERT_ID}`,
  incidents: '/incidents',
  incident: `/incidents/${INCIDENT_ID}`,
};
const SETUPS = [
  { name: 'wide-light', scenario: 'full', colorScheme: 'light', viewport: WIDE },
  { name: 'wide-dark', scenario: 'full', colorScheme: 'dark', viewport: WIDE },
  { name: 'phone-light', scenario: 'full', colorScheme: 'light', viewport: PHONE, phone: true },
  { name: 'phone-dark', scenario: 'full', colorScheme: 'dark', viewport: PHONE, phone: true },
  { name: 'empty', scenario: 'empty', colorScheme: 'light', viewport: WIDE },
  { name: 'error', scenario: 'error', colorScheme: 'dark', viewport: WIDE },
];

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
await mkdir(folder, { recursive: true });
let failures = 0;

for (const setup of SETUPS) {
  const fixture = await startFixture({ scenario: setup.scenario });
  const browser = await openBrowser(setup);
  for (const [name, path] of Object.entries(PAGES)) {
    if (only.length > 0 && !only.some((wanted) => `${setup.name}-${name}`.includes(wanted))) continue;
    const page = await browser.context.newPage();
    // A refused request is a console error of the browser's own; here it is what is being shown.
    const complaints = watch(page, (text) => setup.scenario !== 'full' && /Failed to load resource|WebSocket/.test(text));
    await page.goto(fixture.url + path);
    if (setup.scenario === 'full' || !['trace', 'issue', 'alert', 'incident'].includes(name)) await settled(page);
    else await page.locator('[role=alert]').first().waitFor();
    await page.waitForTimeout(name === 'live' ? 800 : 250);
    if (name === 'trace' && setup.scenario === 'full') await page.locator('[data-place="6"]').click();
    if (name === 'logs' && setup.scenario === 'full') await page.locator('[data-row="4"]').click();
    await page.waitForTimeout(120);
    await page.screenshot({ path: join(folder, `${setup.name}-${name}.png`), fullPage: ['alert', 'issue', 'service', 'incident'].includes(name) });
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    for (const violation of found.violations) complaints.push(`axe ${violation.id}: ${violation.nodes.slice(0, 3).map((node) => `${node.target.join(' ')} — ${node.failureSummary?.split('\n')[1]?.trim()}`).join(' | ')}`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (overflow > 0) complaints.push(`the page is ${overflow} px wider than the screen`);
    for (const complaint of complaints) console.log(`${setup.name} ${name}: ${complaint}`);
    failures += complaints.length;
    await page.close();
  }
  await browser.close();
  fixture.close();
}
console.log(failures === 0 ? 'no complaint' : `${failures} complaints`);
process.exitCode = failures === 0 ? 0 : 1;
