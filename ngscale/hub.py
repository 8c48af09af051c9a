"""Data sets streamed through the ``datasets`` library, and the headers of models' weights.

Resolving a name fixes its files: those of the hub by the commit they were listed at, local ones by
path. The same files are fingerprinted and read, so a cached or resumed stream mixes no revisions.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ngscale.errors import InputError, NetworkError
from ngscale.safetensors_header import TensorHeader, read_checkpoint

PREFIX = "hf://"
_MODEL_FILES = ["config.json", "tokenizer.json", "tekken.json", "*.safetensors", "*.index.json"]
_OTHER_FILES = ["*/*", "consolidated*"]
"""Weights once more, in folders or as their authors keep them."""
_MODEL = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_NOT_REACHED = "LocalEntryNotFoundError"
"""What the library says of a hub that answers with a fault: that a file is not on this machine."""
_PINNED = re.compile(r"hf://datasets/.+@[0-9a-f]{40}/.+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HubDataset:
    """One data set whose files are fixed."""

    source: str
    """As named on the command line."""
    builder: Any
    """The ``datasets.DatasetBuilder``, which knows the resolved files."""

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        """The rows of a split, streamed.

        Raises:
            InputError: there is no such split, or a file cannot be parsed.
            NetworkError: a file cannot be fetched.
        """
        with _told_in_our_words(self.source):
            yield from self.builder.as_streaming_dataset(split=split)

    def fingerprint(self, split: str, file_sha256: Callable[[Path], str]) -> list[Any] | None:
        """What the rows are a function of, as plain JSON; None where that is not known.

        Hub files are told by their address, which has the commit in it, local ones by content.
        """
        import datasets

        files = self._files(split)
        if not files:
            return None
        known: list[str] = []
        for name in files:
            if _PINNED.fullmatch(name):
                known.append(name)
            elif "://" not in name and Path(name).is_file():
                known.append(file_sha256(Path(name)))
            else:
                return None
        return [datasets.__version__, self.builder.config_id, self.builder.hash, split, known]

    def _files(self, split: str) -> list[str]:
        data_files: dict[str, Iterable[str]] = self.builder.config.data_files or {}
        return [str(name) for name in data_files.get(split, [])]


def resolve(source: str) -> HubDataset:
    """The data set that ``hf://name`` is now.

    Raises:
        InputError: it is not there, or no data set.
        NetworkError: the hub cannot be reached.
    """
    import datasets

    with _told_in_our_words(source):
        builder = datasets.load_dataset_builder(source.removeprefix(PREFIX))
    return HubDataset(source=source, builder=builder)


def read_model(source: str) -> tuple[Path, dict[str, TensorHeader]]:
    """config.json of the model that ``hf://owner/name`` is now, and the headers of its weights, of
    one commit. Of the weights no more than the headers are fetched.

    Raises:
        InputError, UnsafeInputError: as ``read_checkpoint``; or there is no such model.
        NetworkError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi, HfFileSystem, hf_hub_download

    repository = source.removeprefix(PREFIX)
    with _told_in_our_words(source):
        commit = HfApi().model_info(repository).sha
        files: Any = HfFileSystem()

        def open_file(name: str) -> tuple[BinaryIO, int] | None:
            address = f"{repository}@{commit}/{name}"
            if not files.exists(address):
                return None
            # without a cache exactly the ranges are fetched that are read
            return files.open(address, "rb", cache_type="none"), files.size(address)

        config = hf_hub_download(repository, "config.json", revision=commit)
        return Path(config), read_checkpoint(source, open_file)


def looks_like_id(name: str) -> bool:
    """Whether ``name`` can only be ``hf://owner/name`` or ``owner/name`` of a model."""
    path = Path(name)
    if name.startswith(PREFIX):
        return True
    return bool(_MODEL.fullmatch(name)) and not path.exists() and not path.parent.exists()


def fetch_model(name: str) -> Path:
    """The folder, in the hub's cache, of config, tokenizer and safetensors of a model.

    No other file is fetched: no pickle, no code.

    Raises:
        InputError: it is no name of a model.
        NetworkError: the hub cannot be reached, or does not give the model.
    """
    from huggingface_hub import errors, snapshot_download

    repository = name.removeprefix(PREFIX)
    with _told_in_our_words(name):
        try:
            found = snapshot_download(
                repository, allow_patterns=_MODEL_FILES, ignore_patterns=_OTHER_FILES
            )
        except errors.LocalEntryNotFoundError as error:  # also a ValueError
            raise NetworkError(f"{name}: cannot be reached: {told(error)}") from error
    return Path(found)


def without_token(line: str) -> str:
    """A line without the hub's token, should a server have repeated it."""
    from huggingface_hub import get_token

    token = get_token()
    return line.replace(token, "***") if token else line


def told(error: Exception) -> str:
    """What the hub library says; a plan writes it into its report."""
    return without_token(" ".join(str(error).split()))


@contextmanager
def _told_in_our_words(source: str) -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        raise NetworkError(f"{source}: cannot be reached: {told(error)}") from error
    except (ValueError, FileNotFoundError) as error:
        if _NOT_REACHED in str(error):
            raise NetworkError(f"{source}: cannot be reached: {told(error)}") from error
        raise InputError(f"{source}: {told(error)}") from error
    except OSError as error:  # what the hub library makes of an HTTP status
        raise NetworkError(f"{source}: cannot be read: {told(error)}") from error
