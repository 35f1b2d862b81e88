// The two Rust toolchains, by name: stable for what runs natively, a dated nightly for the wasm.
import { ask, run, Stop } from "../run.mjs";

/** A toolchain of `pins.mjs` with all of its components and targets. */
export function rustNeed({ name, components, targets, why }) {
  const parts = [...components, ...targets].join(", ");
  return {
    what: `Rust ${name} (${parts}), ${why}`,
    takes: "about 20 s",
    isMet() {
      if (ask("rustup", ["--version"]) === undefined) {
        throw new Stop(
          "rustup is not here. Install it as https://rustup.rs says, open a new shell, and run this again.",
        );
      }
      return missing().length === 0;
    },
    async install() {
      // Parts are added one by one: to install a toolchain that is there takes it away from a build that runs.
      for (const args of missing()) await run("rustup", args);
    },
  };

  /** The rustup commands that are left to run. */
  function missing() {
    // Lines such as `rust-src` and `rust-std-wasm32-unknown-unknown`; components of the host carry its name.
    const installed = ask("rustup", ["component", "list", "--installed", "--toolchain", name])?.split("\n");
    const has = (wanted) =>
      installed?.some((line) => line === wanted || line.startsWith(`${wanted}-`)) === true;
    return [
      ...(installed === undefined
        ? [["toolchain", "install", name, "--profile", "minimal", "--no-self-update"]]
        : []),
      ...components
        .filter((c) => !has(c))
        .map((component) => ["component", "add", component, "--toolchain", name]),
      ...targets
        .filter((t) => !has(`rust-std-${t}`))
        .map((target) => ["target", "add", target, "--toolchain", name]),
    ];
  }
}
