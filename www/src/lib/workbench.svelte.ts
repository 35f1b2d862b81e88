// What outlives a page of the console: the connection, the choices, the runs. One for the whole app, handed down by context.
import { createContext } from "svelte";
import { Connection } from "./connection.svelte.ts";
import { Runs } from "./runs.svelte.ts";
import { Setup } from "./setup.svelte.ts";

export class Workbench {
  readonly connection = new Connection();
  readonly setup = new Setup();
  /** Of the server that is connected to; null while none is. */
  readonly runs: Runs | null = $derived.by(() => {
    const { state, server } = this.connection;
    return state.kind === "connected" ? new Runs(state, server.address) : null;
  });
}

export const [getWorkbench, setWorkbench] = createContext<Workbench>();
