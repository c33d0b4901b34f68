/**
 * What a person does, step by step, against the fixtures: each journey fails on a wrong outcome or on any complaint of the browser.
 *
 *   node tests/journeys.mjs
 */
import assert from 'node:assert/strict';
import { openBrowser, PHONE, settled, watch } from './browser.mjs';
import { INCIDENT_ID, TRACE_ID } from './fixture/native.mjs';
import { startFixture } from './fixture-server.mjs';

const journeys = {
  async 'completes a metric name and runs the query by keyboard'(page, url) {
    await open(page, `${url}/explore`);
    await page.locator('textarea').pressSequentially('rate(http_req');
    await page.locator('[role=option]').first().waitFor();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('textarea').inputValue(), 'rate(http_requests_total');
    await page.keyboard.type('[5m])');
    await page.keyboard.press('Enter');
    await page.waitForURL(/q=rate/);
    await page.locator('[role=application]').focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('Enter');
    await page.waitForURL(/from=\d{4}-/);
    await page.goBack();
    assert.ok(!page.url().includes('from='), 'back undoes the zoom');
  },

  async 'understands a time range in words'(page, url) {
    await open(page, `${url}/services`);
    await page.locator('button.range').click();
    await page.getByPlaceholder('2h, yesterday').fill('whenever');
    await page.keyboard.press('Enter');
    await page.getByText('Not understood').waitFor();
    await page.getByPlaceholder('2h, yesterday').fill('last 3 days');
    await page.keyboard.press('Enter');
    await page.waitForURL(/from=now-3d/);
    await page.locator('.range', { hasText: 'Last 3d' }).waitFor();
    await page.getByRole('link', { name: 'Logs' }).first().click();
    assert.match(page.url(), /\/logs\?from=now-3d/, 'the range goes along');
  },

  async 'goes from a log line to its trace and to the logs of that trace'(page, url) {
    await open(page, `${url}/logs`);
    const traced = page.locator('li', { has: page.locator('.error') });
    await page.locator('[data-row="0"]').focus();
    for (let step = 0; step < 12 && (await page.getByRole('link', { name: 'Trace', exact: true }).count()) === 0; step += 1) {
      await page.keyboard.press('Enter');
      await page.locator('[aria-expanded=true]').first().waitFor();
      if ((await page.getByRole('link', { name: 'Trace', exact: true }).count()) > 0) break;
      await page.keyboard.press('ArrowDown');
      await page.waitForTimeout(50);
    }
    assert.ok(traced);
    await page.getByRole('link', { name: 'Trace', exact: true }).click();
    await page.waitForURL(/\/traces\/[0-9a-f]{32}/);
    await settled(page);
    await page.getByRole('link', { name: 'Logs of this trace' }).click();
    await page.waitForURL(/\/logs\?q=.*trace_id/);
  },

  async 'keeps a query that is wrong and says what the server says'(page, url, complaints) {
    await open(page, `${url}/logs?q=%7Bbroken`);
    await page.getByText('unexpected IDENTIFIER').waitFor();
    assert.equal(await page.locator('textarea').inputValue(), '{broken');
    // The refused request itself is what the browser complains about.
    complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes('400 (Bad Request)')));
  },

  async 'filters by a field of a line'(page, url) {
    await open(page, `${url}/logs`);
    await page.locator('[data-row="0"]').click();
    await page.getByRole('button', { name: 'Only lines where service_name is this' }).click();
    await page.waitForURL(/service_name%3D%22/);
    await page.locator('[data-row="0"]').click();
    await page.getByRole('button', { name: 'Only lines where thread is not this' }).click();
    await page.waitForURL(/thread%21%3D%22MainThread%22/);
  },

  async 'follows live, pauses, and catches up'(page, url) {
    await open(page, `${url}/logs?live=1`);
    await page.locator('[role=status]', { hasText: 'Live' }).waitFor();
    await page.locator('[data-row="0"]').click();
    await page.locator('[role=status]', { hasText: 'Held while you read' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByRole('button', { name: /new lines?$/ }).waitFor();
    const held = await page.locator('.text').first().innerText();
    await page.waitForTimeout(300);
    assert.equal(await page.locator('.text').first().innerText(), held, 'a paused list does not move');
    await page.getByRole('button', { name: /new lines?$/ }).click();
    await page.locator('[role=status]', { hasText: 'Live' }).waitFor();
  },

  async 'walks a trace by keyboard'(page, url) {
    await open(page, `${url}/traces/${TRACE_ID}`);
    await page.locator('[data-place="0"]').focus();
    const count = async () => Number(await page.locator('[role=treegrid]').getAttribute('aria-rowcount'));
    const all = await count();
    await page.keyboard.press('ArrowLeft');
    await page.waitForFunction(() => document.querySelector('[role=treegrid]')?.getAttribute('aria-rowcount') < '9');
    await page.keyboard.press('ArrowRight');
    await page.waitForTimeout(50);
    assert.equal(await count(), all);
    await page.keyboard.press('n');
    await page.keyboard.press('Enter');
    await page.locator('aside').getByText('error', { exact: true }).first().waitFor();
    await page.waitForURL(/span=[0-9a-f]{16}/);
    await page.keyboard.press('Escape');
    await page.waitForURL((current) => !current.search.includes('span='));
  },

  async 'acknowledges an incident, and says who'(page, url) {
    await open(page, `${url}/incidents/${INCIDENT_ID}`);
    await page.getByRole('button', { name: 'Acknowledge' }).click();
    await page.getByText('Say who you are').waitFor();
    await page.getByLabel('Your name').fill('Ada');
    await page.getByRole('button', { name: 'Acknowledge' }).click();
    await page.getByText('Ada, after').waitFor();
    await page.getByLabel(/^Note/).fill('<b>rolled back</b>');
    await page.getByRole('button', { name: 'Add note' }).click();
    await page.getByText('<b>rolled back</b>').waitFor();
  },
};

const locked = {
  async 'signs in with a token; the live tail goes on without a WebSocket'(page, url, complaints) {
    await page.goto(`${url}/logs`);
    await page.getByLabel('Token').fill('wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByLabel('Token').fill('open sesame, please');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('[data-row="0"]').waitFor();
    await page.getByRole('button', { name: 'Follow live' }).click();
    await page.getByText('no WebSocket gets through').waitFor();
    await page.locator('[data-row="0"]').waitFor();
    complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes('401 (Unauthorized)')));
  },
};

async function open(page, url) {
  await page.goto(url);
  await settled(page);
}

let failures = 0;
const wanted = process.argv[2] ?? '';
for (const [scenario, set] of [['full', journeys], ['locked', locked]]) {
  const fixture = await startFixture({ scenario });
  const browser = await openBrowser(scenario === 'locked' ? { viewport: PHONE, phone: true } : {});
  for (const [name, walk] of Object.entries(set)) {
    if (!name.includes(wanted)) continue;
    const page = await browser.context.newPage();
    page.setDefaultTimeout(8_000);
    const complaints = watch(page);
    try {
      await walk(page, fixture.url, complaints);
    } catch (cause) {
      complaints.push(String(cause));
    }
    await page.close();
    failures += complaints.length === 0 ? 0 : 1;
    console.log(complaints.length === 0 ? `ok    ${name}` : `FAIL  ${name}\n      ${complaints.join('\n      ')}`);
  }
  await browser.close();
  fixture.close();
}
process.exitCode = failures === 0 ? 0 : 1;
