"""Small tokenizer files of every kind."""

import base64
import json
from pathlib import Path

MERGES = [b"th", b"the", b" the", b"an", b"and", b" and", b"er", b"ou", b"in", b"ing", b"\n\n"]
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def ranked() -> list[bytes]:
    """All bytes, then a few merges."""
    return [bytes([byte]) for byte in range(256)] + MERGES


def write_ranks(path: Path) -> Path:
    """A tiktoken rank file."""
    lines = (b"%s %d\n" % (base64.b64encode(t), rank) for rank, t in enumerate(ranked()))
    path.write_bytes(b"".join(lines))
    return path


def write_tekken(path: Path, *, num_special: int = 10, vocab_size: int = 270) -> Path:
    """A tekken.json whose last ranks do not fit its vocabulary."""
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for rank, token in enumerate(ranked())
    ]
    config = {
        "pattern": SPLIT,
        "num_vocab_tokens": len(vocab),
        "default_vocab_size": vocab_size,
        "default_num_special_tokens": num_special,
        "version": "v3",
    }
    path.write_text(json.dumps({"config": config, "vocab": vocab}))
    return path


def write_json(path: Path, **changes: object) -> Path:
    """A tokenizer.json of three words, with keys of the document replaced."""
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "[U]": 2}, "unk_token": "[U]"}
    document: dict[str, object] = {
        "version": "1.0",
        "added_tokens": [],
        "model": model,
        "pre_tokenizer": None,
    }
    path.write_text(json.dumps({**document, **changes}))
    return path


def write_prefix_space(directory: Path) -> Path:
    """A byte-level BPE that puts a space before every text: a cut shows."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True, use_regex=True)
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["the thing and the other thing"], trainer)
    path = directory / "prefix.json"
    tokenizer.save(str(path))
    return path
