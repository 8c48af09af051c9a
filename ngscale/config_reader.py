"""Typed look-ups in a Hugging Face config.json; every failure names the file and the key."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ngscale.errors import InputError

MAX_LISTED = 10_000
"""Layers, and experts a token: what lists have an entry for."""
_MAX_WHOLE = 2**31 - 1
_MAX_NUMBER = 2.0**53
_MAX_DEPTH = 100
"""Objects and lists within each other; a config has four, and Python's stack about a thousand."""


class ConfigReader:
    """Typed look-ups in one config.json; every failure names the file and the key."""

    def __init__(self, values: Mapping[str, Any], source: str, prefix: str = "") -> None:
        """Read ``values``; ``source`` is what error messages call the file, ``prefix`` goes before
        their keys.
        """
        self.values = values
        self.source = source
        self.prefix = prefix

    def fail(self, key: str, problem: str) -> InputError:
        """The error for ``key``, ready to be raised."""
        return InputError(f"{self.source}: {self.prefix}{shown(key)}: {problem}")

    @property
    def model_type(self) -> str | None:
        """``model_type``, a string where there is one."""
        value = self.values.get("model_type")
        if value is not None and not isinstance(value, str):
            raise self.fail("model_type", f"must be a string, got {told(value)}")
        return value

    @property
    def architectures(self) -> list[Any]:
        """``architectures``, a list that may be empty."""
        value = self.values.get("architectures") or []
        if not isinstance(value, list):
            raise self.fail("architectures", f"must be a list, got {told(value)}")
        return value

    def unknown_family(self, known: Sequence[str]) -> InputError:
        """The error for a model family that is not understood."""
        return self.fail(
            "model_type",
            f"{told(self.model_type)} (architectures {told(self.architectures)}) is "
            f"not understood; known: {', '.join(known)}",
        )

    def whole(
        self,
        key: str,
        *,
        minimum: int = 1,
        maximum: int = _MAX_WHOLE,
        default: int | None = None,
        null: bool = False,
    ) -> int:
        """An integer in a range; ``default`` only where the key is absent (or null, if allowed)."""
        if key not in self.values or (null and self.values[key] is None):
            if default is None:
                raise self.fail(key, "is missing; this model family needs it")
            return default
        return self._whole(key, self.values[key], minimum, maximum)

    def wholes(
        self,
        key: str,
        *,
        minimum: int = 1,
        maximum: int = _MAX_WHOLE,
        default: tuple[int, ...] | None = None,
    ) -> tuple[int, ...]:
        """A list of integers in a range; ``default`` where the key is absent or null."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if value is None and key not in self.values:
            raise self.fail(key, "is missing; this model family needs it")
        if not isinstance(value, list) or (not value and default is None):
            raise self.fail(key, f"must be a list of whole numbers, got {told(value)}")
        return tuple(self._whole(key, entry, minimum, maximum) for entry in value)

    def _whole(self, key: str, value: Any, minimum: int, maximum: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(key, f"must be a whole number, got {told(value)}")
        if not minimum <= value <= maximum:
            raise self.fail(key, f"must be {minimum}..{maximum}, got {told(value)}")
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false; ``default`` where the key is absent or null."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, f"must be true or false, got {told(value)}")
        return value

    def word(self, key: str, known: Sequence[str]) -> Any:
        """One of some words; the first where the key is absent."""
        value = self.values.get(key, known[0])
        if value not in known:
            raise self.fail(key, f"must be one of {', '.join(known)}, got {told(value)}")
        return value

    def words(self, key: str, known: Sequence[str], count: int) -> list[str] | None:
        """A list of ``count`` of these words; None where the key is absent or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != count:
            raise self.fail(key, f"must be a list of {count} words, got {told(value)}")
        for word in value:
            if word not in known:
                raise self.fail(key, f"must hold {', '.join(known)} only, got {told(word)}")
        return value

    def object(self, key: str) -> "ConfigReader":
        """The object under ``key``."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.fail(key, f"must be an object, got {told(value)}")
        return ConfigReader(value, self.source, f"{self.prefix}{key}.")

    def only(self, known: Sequence[str]) -> None:
        """Refuse keys that are not ``known``."""
        if unknown := sorted(set(self.values) - set(known)):
            raise self.fail(unknown[0], f"is not known; known: {', '.join(sorted(known))}")

    def number(self, key: str, *, default: float | None = None) -> float:
        """A finite positive number; an int stays an int (the hash's arithmetic depends on it)."""
        if key not in self.values and default is not None:
            return default
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(key, f"must be a number, got {told(value)}")
        if not 0 < value <= _MAX_NUMBER:  # an int too large for a float, too
            raise self.fail(key, f"must be positive and at most 2**53, got {told(value)}")
        return value

    def first_set(self, keys: tuple[str, ...]) -> str | None:
        """The first of these keys that is set to anything but null."""
        return next((key for key in keys if self.values.get(key) is not None), None)

    def one_of(self, keys: tuple[str, ...]) -> str | None:
        """The one key of these aliases that is set; None where none is."""
        found = [key for key in keys if self.values.get(key) is not None]
        if any(self.values[key] != self.values[found[0]] for key in found):
            raise self.fail(" and ".join(found), "disagree; keep one")
        return found[0] if found else None


def read_config(path: Path, kind: str = "config.json") -> ConfigReader:
    """Parse a config.json strictly: no duplicate keys, no NaN, an object at the top.

    Raises:
        InputError: the file is missing, not JSON, or not an object.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_config(data, str(path), kind)


def parse_config(data: bytes, source: str, kind: str = "config.json") -> ConfigReader:
    """The same of bytes that are read already; ``kind`` is what they should have been.

    Raises:
        InputError: they are not UTF-8, not JSON, or not an object.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        for key, value in values.items():
            if (number := _not_finite(value)) is not None:
                raise InputError(f"{source}: {shown(key)}: {number} is not a JSON number")
        if len(values) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise InputError(f"{source}: {shown(key)}: appears twice")
                seen.add(key)
        return values

    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: is not UTF-8 text, so not a {kind}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{source}: holds no JSON object, so it is not a {kind}")
    for key, value in values.items():
        if _is_deep(value):
            raise InputError(
                f"{source}: {shown(key)}: is nested more than {_MAX_DEPTH} levels deep"
            )
    return ConfigReader(values, source)


def _not_finite(value: Any) -> str | None:
    """The name of a number that no JSON holds but Python's reader takes; 1e999 is one too.

    Of a value and its lists; objects in it were looked at when they were read.
    """
    level = [value]
    while level:
        for each in level:
            if isinstance(each, float) and not math.isfinite(each):
                return json.dumps(each)
        level = [inner for each in level if isinstance(each, list) for inner in each]
    return None


def _is_deep(value: Any) -> bool:
    """Whether it is too deep for Python's stack to copy or write, though it was read."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        outer = [each for each in level if isinstance(each, dict | list)]
        level = [inner for each in outer for inner in _members(each)]
    return bool(level)


def _members(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def told(value: Any) -> str:
    """A value from a file as one line can show it."""
    return shown(json.dumps(value))


def shown(name: str) -> str:
    """A name from a file as one line can show it: printable, and cut after 100 characters."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 100 else f"{text[:100]}..."
