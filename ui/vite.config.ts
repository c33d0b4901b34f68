import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

/** Where `npm run dev` finds the server: the real one, or the fixtures (`npm run fixture`). */
const server = process.env['BELLROCK_URL'] ?? 'http://127.0.0.1:1811';

/** File names carry no hash: the server puts a build id in the path, and the committed output stays small in git. */
export default defineConfig({
  plugins: [svelte()],
  base: '/',
  build: {
    outDir: 'dist',
    assetsDir: '_a',
    target: 'es2023',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: '_a/[name].js',
        chunkFileNames: '_a/[name].js',
        assetFileNames: '_a/[name][extname]',
        // What nearly every page uses comes in one piece; what one page or the charts use stays with them.
        codeSplitting: {
          groups: [
            { name: 'svelte', priority: 3, test: /node_modules\/(svelte|esm-env|clsx)\// },
            { name: 'chart', priority: 1, test: /src\/(kit\/Chart(Table)?\.svelte|lib\/matrix\.ts)/ },
            { name: 'kit', priority: 2, test: /preload-helper|src\/(api\/(client|complete)|lib\/|state|kit\/(AlertTable|CopyButton|EmptyState|ErrorState|Facts|Fields|Icon|IssueTable|Load|Mark|Nav|SignIn|Sparkline|Status|TimeRange|TraceTable)\.svelte)/ },
          ],
        },
      },
    },
  },
  experimental: {
    // Scripts name each other relatively, so that they work under any build id.
    renderBuiltUrl: (_filename, { hostType }) => (hostType === 'html' ? undefined : { relative: true }),
  },
  server: {
    proxy: Object.fromEntries(
      ['/api', '/loki', '/bellrock', '/alertmanager'].map((path) => [path, { target: server, ws: true, changeOrigin: true }]),
    ),
  },
  test: { include: ['tests/unit/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0]);
