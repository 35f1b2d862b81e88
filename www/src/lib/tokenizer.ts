// Text to token ids and back, with the tokenizer that the server's model was trained with.
import { Tokenizer } from "@huggingface/tokenizers";

/** What the console needs of a tokenizer. */
export interface TextCodec {
  /** Token ids of a text. The names of special tokens in it become those tokens. */
  encode(text: string): number[];
  /** Special tokens are left out; bytes that are no UTF-8 become “�”. */
  decode(tokens: Iterable<number>): string;
  /** The id of a special token, by its name. Undefined: this tokenizer has none. */
  special(name: string): number | undefined;
}

/** The server has no tokenizer to give, so that the page can't turn text into tokens for it. */
export class NoTokenizerError extends Error {
  override name = "NoTokenizerError";
}

/** Where the sandbox serves its tokenizer. Not part of the Tinker API: other servers have nothing there. */
const PATH = "/api/v1/sandbox/tokenizer.json";

/** Rejects with `NoTokenizerError` when the server answers and has none, and as `fetch` does when it doesn't answer. */
export async function fetchTokenizer(baseURL: string, apiKey: string): Promise<TextCodec> {
  const response = await fetch(baseURL + PATH, { headers: { "X-API-Key": apiKey } });
  if (!response.ok) throw new NoTokenizerError(`${baseURL + PATH} answered ${response.status}`);
  const description: unknown = await response.json().catch(() => null);
  if (typeof description !== "object" || description === null)
    throw new NoTokenizerError(`${baseURL + PATH} is not a tokenizer`);
  const tokenizer = new Tokenizer(description, {});
  return {
    encode: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    decode: (tokens) => tokenizer.decode([...tokens], { skip_special_tokens: true }),
    special: (name) => tokenizer.token_to_id(name),
  };
}
