// Whether anything answers at an address: tells a server that is gone from one that is busy with a large step.

/** How long an answer may take, in ms. A busy server still answers this at once. */
const PATIENCE = 4_000;

/** Any answer will do, whatever it says, and no key is sent. */
export async function answers(address: string): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    await fetch(`${address.replace(/\/+$/, "")}/api/v1/healthz`, {
      mode: "no-cors",
      cache: "no-store",
      signal,
    });
    return true;
  } catch {
    return false;
  }
}
