// In an edge worker, which compiles WebAssembly when it is deployed and not while it runs.
import { init } from "tinkex";
import module from "tinkex/tinkex_bg.wasm";
import deferred from "tinkex/tinkex_deferred_bg.wasm";
import { twoSteps } from "./two-steps.mjs";

export default {
  async fetch(request) {
    try {
      await init({ module, deferred: { module: deferred } });
      return Response.json(await twoSteps(new URL(request.url).searchParams.get("server")));
    } catch (error) {
      return new Response(error.stack, { status: 500 });
    }
  },
};
