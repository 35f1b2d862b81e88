// A page with a session, whose beginning waits to be told. The server is named in the page's address.
import { init, ServiceClient } from "tinkex";

const baseURL = new URLSearchParams(location.search).get("server") ?? location.origin;

globalThis.open = async () => {
  await init();
  const service = new ServiceClient({ apiKey: "tml-a-test", baseURL });
  await service.createSamplingClient({ baseModel: "tinkex/tiny" });
  return service.sessionId;
};

document.title = "ready";
