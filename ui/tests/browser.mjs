/** Starting the Chromium of this machine; the browser is never downloaded. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--font-render-hinting=none'];

export const WIDE = { width: 1360, height: 860 };
export const PHONE = { width: 390, height: 844 };

/** A context and what ends it with its profile folder. */
export async function openBrowser({ viewport = WIDE, colorScheme = 'light', phone = false } = {}) {
  const profile = await mkdtemp(join(tmpdir(), 'bellrock-ui-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.BELLROCK_CHROMIUM ?? process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ARGUMENTS,
    viewport,
    colorScheme,
    reducedMotion: 'reduce',
    hasTouch: phone,
    isMobile: phone,
    deviceScaleFactor: phone ? 2 : 1,
    timezoneId: 'UTC',
  });
  return {
    context,
    close: async () => {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Everything that a page says is wrong: uncaught errors, console errors, and violations of the content security policy. */
export function watch(page, ignore = () => false) {
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !ignore(text)) complaints.push(`console: ${text} (${message.location().url})`);
  });
  return complaints;
}

/** The page has its heading, nothing waits for the server, and what is drawn is drawn. */
export async function settled(page) {
  await page.locator('h1').first().waitFor({ timeout: 15_000 });
  await page.waitForFunction(() => document.querySelectorAll('.waiting').length === 0, undefined, { timeout: 30_000 });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
