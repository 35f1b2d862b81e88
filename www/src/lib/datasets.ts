// The data sets that come with the console, and how each is read.
import answersURL from "../../../data/answers.jsonl?url";
import textURL from "../../../data/shakespeare.txt?url";
import { DataError, readAnswers, readText, type Corpus } from "./data.ts";
import type { TextCodec } from "./tokenizer.ts";

export interface DataSet {
  id: "answers" | "text";
  name: string;
  /** What it is, and what the model learns from it. */
  about: string;
  url: string;
  read(content: string, codec: TextCodec): Corpus;
}

export const dataSets: readonly [DataSet, ...DataSet[]] = [
  {
    id: "answers",
    name: "Prompts and answers",
    about: "JSONL. The model learns to answer in a form that it has never seen.",
    url: answersURL,
    read: readAnswers,
  },
  {
    id: "text",
    name: "Plain text",
    about: "Shakespeare. The model learns to write in his manner.",
    url: textURL,
    read: readText,
  },
];

/** The data sets in the tokens of one tokenizer. Each is read once. */
export class Corpora {
  readonly #codec: TextCodec;
  readonly #read = new Map<DataSet, Promise<Corpus>>();

  constructor(codec: TextCodec) {
    this.#codec = codec;
  }

  /** Rejects with a `DataError` that names what is wrong with the file, and as `fetch` does when nothing answers. */
  get(set: DataSet): Promise<Corpus> {
    let corpus = this.#read.get(set);
    if (!corpus) {
      corpus = load(set, this.#codec);
      this.#read.set(set, corpus);
      // What could not be read now may be there the next time.
      corpus.catch(() => this.#read.delete(set));
    }
    return corpus;
  }
}

async function load(set: DataSet, codec: TextCodec): Promise<Corpus> {
  const response = await fetch(set.url);
  if (!response.ok) throw new DataError(`${set.url} answered ${response.status}`);
  return set.read(await response.text(), codec);
}
