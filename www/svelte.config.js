// Read by svelte-check and the editor as well as by Vite: components are TypeScript, state is runes only.
import { vitePreprocess } from "@sveltejs/vite-plugin-svelte";

export default { preprocess: vitePreprocess(), compilerOptions: { runes: true } };
