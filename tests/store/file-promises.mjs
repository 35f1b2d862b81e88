// Holds the store in a directory to its promises, in whatever runtime this is, and says how that went.
import { lasting, outcomes, promises } from "./promises.mjs";

const [module, directory] = process.argv.slice(2);
const { fileStore } = await import(module);
const opened = [];
let directories = 0;
const openNew = () => {
  const own = `${directory}/${++directories}`;
  return async () => {
    opened.push(fileStore(own));
    return opened.at(-1);
  };
};
console.log(JSON.stringify(await outcomes({ ...promises, ...lasting }, openNew)));
await Promise.all(opened.map((store) => store.close()));
