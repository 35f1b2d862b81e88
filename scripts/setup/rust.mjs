// The two Rust toolchains, by name: stable for what runs natively, a dated nightly for the wasm.
import { nightly, stable } from "../pins.mjs";
import { ask, run, Stop } from "../run.mjs";

export function rustNeeds() {
  return [
    toolchain(stable, "for everything native"),
    toolchain(nightly, "for the wasm build alone, which rebuilds std to unwind"),
  ];
}

function toolchain({ name, components, targets }, why) {
  return {
    what: `Rust ${name}, ${why}`,
    takes: "about 20 s",
    isMet() {
      if (ask("rustup", ["--version"]) === undefined) {
        throw new Stop("rustup is not here. Install it as https://rustup.rs says, open a new shell, and run this again.");
      }
      // Lines such as `rust-src` and `rust-std-wasm32-unknown-unknown`; components of the host carry its name.
      const installed = ask("rustup", ["component", "list", "--installed", "--toolchain", name])?.split("\n");
      const has = (wanted) => installed.some((line) => line === wanted || line.startsWith(`${wanted}-`));
      return installed !== undefined && components.every(has) && targets.every((t) => has(`rust-std-${t}`));
    },
    install: () =>
      run("rustup", [
        ...["toolchain", "install", name, "--profile", "minimal", "--no-self-update"],
        ...components.flatMap((component) => ["--component", component]),
        ...targets.flatMap((target) => ["--target", target]),
      ]),
  };
}
