// Builds the console into www/dist. `tinkex` resolves as it does for a user: by its name, to the package's own exports.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/**
 * The policy that the built page lives under: no eval, no inline script or style, WebAssembly allowed. Any server may
 * be connected to, as the user can name one. Only in the build: Vite's development server injects styles.
 */
const policy = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "connect-src http: https:",
  "img-src 'self' data:",
  "object-src 'none'",
  "base-uri 'none'",
].join("; ");

const contentSecurityPolicy: Plugin = {
  name: "content-security-policy",
  apply: "build",
  transformIndexHtml: () => [
    {
      tag: "meta",
      attrs: { "http-equiv": "Content-Security-Policy", content: policy },
      injectTo: "head-prepend",
    },
  ],
};

export default defineConfig({
  plugins: [svelte(), contentSecurityPolicy],
  // Data sets and the wasm stay files of their own, so that the page shows up before they are read.
  build: { target: "es2023", assetsInlineLimit: 0, emptyOutDir: true },
  // `npx vite www` beside `npm run sandbox -- --port 8123`, to work on the page with hot reload.
  server: { proxy: { "/api": "http://127.0.0.1:8123" } },
});
