"""Our own share of the base model's text: seeded short stories, questions and answers, sums, and records.

It gives the model skills that instruction tuning can hold on to: to follow turns, to find in a passage who did what, to copy
names and numbers. It never answers in JSON within a turn: that form is what the shipped answers data set teaches.
"""

import json
import random

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mary Noah Olive Peter Rose Sam Tom Vera Will Zoe
Alice Bruno Carol Daniel Edith Frank George Helen Ivan Jane Karl Lucy Martin Nina Oscar Paula Robert Sarah Thomas Ursula
Victor Wendy Arthur Bella Dora Eric Flora Hugo Iris James Laura Max Nora Otto Pam Ruth Simon Tina""".split()
THINGS = """apples books boats candles chairs coins cups dolls eggs flowers gloves hats keys lamps letters maps nails onions
pears pens pies plates plums ribbons rings ropes shells shirts shoes spoons stamps stones tables tickets toys bells boxes
brushes buttons cakes cards clocks combs drums fish forks jars kites knives lemons mugs nuts oranges pots roses sticks
stools towels vases""".split()
COLOURS = "red blue green yellow white black brown grey pink purple silver golden".split()
PLACES = """market harbour school garden station library mill church farm castle bridge river forest shop kitchen tower field
village beach museum park bakery barn office""".split()
NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()
ACTIONS = ["bought", "found", "sold", "lost", "carried", "counted", "painted", "saw", "hid", "made"]
TIMES = ["in the morning", "in the evening", "at noon", "after lunch", "before dinner", "at night", "on Monday",
         "on Friday", "on Sunday", "last week", "in spring", "in winter"]
ANIMALS = "dog cat horse cow goat bird fox mouse duck rabbit sheep pig".split()
MOODS = "happy tired angry proud afraid hungry calm glad sad quiet".split()


class Fact:
    """Someone did something with a number of things somewhere."""

    def __init__(self, rng):
        self.who, self.thing, self.colour = rng.choice(NAMES), rng.choice(THINGS), rng.choice(COLOURS)
        self.place, self.number, self.action = rng.choice(PLACES), rng.choice(NUMBERS), rng.choice(ACTIONS)
        self.time = rng.choice(TIMES)

    def sentence(self, rng):
        things = f"{self.number} {self.colour} {self.thing}"
        return rng.choice([
            f"{self.who} {self.action} {things} at the {self.place}.",
            f"{self.who} {self.action} {things} at the {self.place} {self.time}.",
            f"At the {self.place}, {self.who} {self.action} {things}.",
            f"{self.time[0].upper()}{self.time[1:]}, {self.who} {self.action} {things} at the {self.place}.",
        ])


def fact_question(fact, rng):
    """A question about a fact, and its answer in plain words."""
    base = {"bought": "buy", "found": "find", "sold": "sell", "lost": "lose", "carried": "carry", "counted": "count",
            "painted": "paint", "saw": "see", "hid": "hide", "made": "make"}[fact.action]
    return rng.choice([
        (f"Who {fact.action} the {fact.thing}?", f"{fact.who}."),
        (f"What did {fact.who} {base}?", f"{fact.number.capitalize()} {fact.colour} {fact.thing}."),
        (f"How many {fact.thing} are there?", f"{fact.number.capitalize()}."),
        (f"What colour are the {fact.thing}?", f"{fact.colour.capitalize()}."),
        (f"Where was {fact.who}?", f"At the {fact.place}."),
        ("Who, how many, what and where?", f"{fact.who}, {fact.number}, {fact.thing}, {fact.place}."),
        ("Who, how many, what and where?", f"{fact.who}, {fact.number}, {fact.thing}, {fact.place}."),
        ("Who, what and where?", f"{fact.who}, {fact.thing}, {fact.place}."),
        ("Who and where?", f"{fact.who}, {fact.place}."),
    ])


def one_fact(rng):
    fact = Fact(rng)
    question, answer = fact_question(fact, rng)
    return f"{USER}{fact.sentence(rng)} {question}{ASSISTANT}{answer}{END}"


def two_facts(rng):
    """Two facts, two questions: the right one of them has to be found."""
    facts = [Fact(rng), Fact(rng)]
    if facts[0].who == facts[1].who or facts[0].thing == facts[1].thing:
        return one_fact(rng)
    fact = rng.choice(facts)
    passage = " ".join(f.sentence(rng) for f in facts)
    question, answer = rng.choice([
        (f"Where was {fact.who}?", f"At the {fact.place}."),
        (f"Who {fact.action} the {fact.thing}?", f"{fact.who}."),
        (f"How many {fact.thing} are there?", f"{fact.number.capitalize()}."),
        (f"What colour are the {fact.thing}?", f"{fact.colour.capitalize()}."),
    ])
    return f"{USER}{passage} {question}{ASSISTANT}{answer}{END}"


def arithmetic(rng):
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    if rng.random() < 0.5:
        question, answer = f"{a} + {b}", a + b
    else:
        a, b = max(a, b), min(a, b)
        question, answer = f"{a} - {b}", a - b
    ask = rng.choice([f"What is {question}?", f"{question} = ?", f"How much is {question}?"])
    return f"{USER}{ask}{ASSISTANT}{answer}{END}"


def talk(rng):
    """Small talk, sorting, repeating: short turns of other kinds."""
    name, other = rng.sample(NAMES, 2)
    items = rng.sample(THINGS, rng.randint(2, 4))
    word = rng.choice(THINGS)
    ask, answer = rng.choice([
        (f"My name is {name}.", f"Hello, {name}."),
        (f"I am {name} and this is {other}.", f"Hello, {name} and {other}."),
        (f"Say {word} twice.", f"{word.capitalize()} {word}."),
        (f"Sort: {', '.join(items)}.", f"{', '.join(sorted(items)).capitalize()}."),
        (f"Which is the last of {', '.join(items)}?", f"{items[-1].capitalize()}."),
        (f"Which is the first of {', '.join(items)}?", f"{items[0].capitalize()}."),
        (f"Write {word} in capitals.", word.upper()),
        (f"How do you feel, {name}?", f"I am {rng.choice(MOODS)}, thank you."),
    ])
    return f"{USER}{ask}{ASSISTANT}{answer}{END}"


def story(rng):
    fact = Fact(rng)
    friend = rng.choice([name for name in NAMES if name != fact.who])
    animal, mood = rng.choice(ANIMALS), rng.choice(MOODS)
    second = rng.choice(PLACES)
    parts = [
        rng.choice([f"Once there lived a {animal} whose friend was {fact.who}.",
                    f"{fact.who} had an old {animal}.",
                    f"There was a {animal} near the {second}."]),
        fact.sentence(rng),
        rng.choice([f"{friend} came and asked, \"How many {fact.thing} have you got?\" \"{fact.number.capitalize()},\" said {fact.who}.",
                    f"\"Are the {fact.thing} {fact.colour}?\" asked {friend}. \"Yes, {fact.colour},\" said {fact.who}.",
                    f"{friend} was {mood} and went to the {fact.place} too."]),
        rng.choice([f"Then they went to the {second} with the {animal}.",
                    f"The {animal} slept near the {fact.thing}.",
                    f"They gave the {fact.thing} to the {animal}, who was {mood}."]),
        rng.choice([f"In the end {friend} and {fact.who} were {mood}.", f"And so {fact.who} went home, {mood} and {rng.choice(MOODS)}.",
                    "And that was the end of the day."]),
    ]
    return " ".join(parts) + END


def record(rng):
    """Records stand alone, outside turns, with keys that the answers data set doesn't use."""
    fact = Fact(rng)
    fields = {"name": fact.who, "age": rng.randint(5, 90), "town": fact.place, "pet": rng.choice(ANIMALS),
              "colour": fact.colour, "items": rng.sample(THINGS, 2), "open": rng.random() < 0.5}
    keys = rng.sample(sorted(fields), rng.randint(2, 4))
    return json.dumps({key: fields[key] for key in keys}) + END


def conversation(rng):
    """Several questions on one fact: most of what is to be learned from questions is in their answers."""
    fact = Fact(rng)
    text, ask = "", fact.sentence(rng) + " "
    for _ in range(rng.randint(2, 5)):
        question, answer = fact_question(fact, rng)
        text += f"{USER}{ask}{question}{ASSISTANT}{answer}{END}"
        ask = ""
    return text


def repeat(rng):
    """Plain copying, of names and things in any order."""
    words = [rng.choice(rng.choice([NAMES, THINGS, PLACES, COLOURS, NUMBERS])) for _ in range(rng.randint(3, 7))]
    listed = ", ".join(words)
    ask = rng.choice([f"Repeat: {listed}.", f"Say this again: {listed}.", f"{listed}. What did I say?"])
    return f"{USER}{ask}{ASSISTANT}{listed}.{END}"


def note(rng):
    """A fact, and a record of it: outside turns, with keys that the answers data set doesn't use."""
    fact = Fact(rng)
    fields = {"name": fact.who, "count": fact.number, "items": [fact.thing], "colour": fact.colour, "town": fact.place}
    keys = rng.sample(sorted(fields), rng.randint(2, 4))
    return f"{fact.sentence(rng)}\n{json.dumps({key: fields[key] for key in keys})}{END}"


FIRST = [(one_fact, 46), (two_facts, 12), (arithmetic, 8), (talk, 10), (story, 16), (record, 8)]
# Denser: each document has more that follows from what stands before.
SECOND = [(conversation, 42), (two_facts, 10), (repeat, 14), (note, 12), (arithmetic, 5), (talk, 6), (story, 11)]

# Copying alone, until the model has found out how.
COPYING = [(repeat, 45), (conversation, 35), (note, 20)]


def documents(seed, kinds):
    """An endless sequence of documents, each ended by END."""
    rng = random.Random(seed)
    makers, weights = zip(*kinds)
    while True:
        yield rng.choices(makers, weights)[0](rng)
