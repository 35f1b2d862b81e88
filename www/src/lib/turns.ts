// How a prompt and its answer are written for the model: the markers that its base was trained with, in one place.

const USER = "<|user|>";
const ASSISTANT = "<|assistant|>";
const END = "<|end|>";

/** Everything up to where the answer begins. */
export function promptText(prompt: string): string {
  return `${USER}${prompt}${ASSISTANT}`;
}

/** The answer, with the marker that says that it is over. */
export function answerText(answer: string): string {
  return `${answer}${END}`;
}

/** The token that ends an answer, by name. */
export const endOfAnswer = END;
