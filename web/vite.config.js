import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // the folder may be served from any path
  build: {
    outDir: "../keras_ae/web",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
  },
});
