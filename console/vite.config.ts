import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../src/shoal/api/pages",
    emptyOutDir: true,
    // Everything is a file of its own: the policy forbids what is inlined.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
  },
  server: { proxy: { "^/(api|login|logout)": { target: "https://localhost:9443", secure: false, changeOrigin: true } } },
});
