"""Two byte-level BPE tokenizers, of 32,768 and 4,096 ids, trained on freely licensed text.

The text is Jane Austen's six novels (austen.py; alone they yield under 30,000 merges) and the
glosses with examples of WordNet 3.0 (Debian package wordnet-base). Id 0 is ``<|endoftext|>``, ids
1-256 are the bytes, the rest are merges. Nothing is added when encoding.

    python corpora/recipes/train_tokenizers.py --novels out/austen --out out/tokenizers
"""

import argparse
import os
import tempfile
from pathlib import Path

from austen import NOVELS
from sources import InputError, result_line, run_recipe, unpacked_deb, write_whole
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

PACKAGE = "wordnet-base"
WORDNET = Path("usr/share/wordnet")
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
VOCAB_SIZES = (32_768, 4_096)
END_OF_TEXT = "<|endoftext|>"


def read_novels(directory: Path) -> list[str]:
    """The six novels austen.py wrote, in a fixed order.

    Raises:
        InputError: one is missing.
    """
    paths = [directory / f"{stem}.txt" for stem in sorted(NOVELS.values())]
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"{missing[0]}: no such file; make it with austen.py --out {directory}")
    return [path.read_text(encoding="utf-8") for path in paths]


def read_glosses(root: Path) -> list[str]:
    """Per part of speech, the glosses and examples of WordNet, one synset a line.

    A data line is ``synset fields | gloss``; the licence heading has no bar (man page wndb(5)).
    """
    texts = []
    for part in PARTS_OF_SPEECH:
        lines = (root / WORDNET / f"data.{part}").read_text(encoding="ascii").splitlines()
        glosses = [line.split(" | ", 1)[1].strip() for line in lines if " | " in line]
        texts.append("\n".join(glosses) + "\n")
    return texts


def train(texts: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of exactly ``vocab_size`` ids.

    Raises:
        InputError: the texts have too few pairs to merge.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise InputError(f"the texts yield {tokenizer.get_vocab_size()} ids, not {vocab_size}")
    check(tokenizer, vocab_size, texts[0])
    return tokenizer


def check(tokenizer: Tokenizer, vocab_size: int, text: str) -> None:
    """What users of the tokenizer rely on."""
    ids = tokenizer.get_vocab()
    assert max(ids.values()) == vocab_size - 1
    assert len(set(ids.values())) == vocab_size
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert all(tokenizer.token_to_id(byte) is not None for byte in ByteLevel.alphabet())
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("").ids == []


def main() -> None:
    """Train and write both tokenizers."""
    parser = argparse.ArgumentParser(description="Train the two byte-level BPE tokenizers.")
    parser.add_argument("--novels", type=Path, required=True, help="directory austen.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="directory for bpe-<ids>/")
    parser.add_argument("--wordnet-deb", type=Path, help=f"a downloaded {PACKAGE} .deb")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = read_novels(arguments.novels)
    with tempfile.TemporaryDirectory() as scratch:
        texts += read_glosses(unpacked_deb(PACKAGE, arguments.wordnet_deb, Path(scratch)))
    for vocab_size in VOCAB_SIZES:
        tokenizer = train(texts, vocab_size)
        path = arguments.out / f"bpe-{vocab_size}" / "tokenizer.json"
        write_whole(path, tokenizer.to_str(pretty=False).encode("utf-8"))
        print(result_line(path))


if __name__ == "__main__":
    raise SystemExit(run_recipe(main))
