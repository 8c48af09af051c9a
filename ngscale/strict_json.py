"""JSON that was kept or is somebody else's, read without NaN, Infinity and numbers like 1e999.

Python's reader takes all three, and one of them in a kept result would be a number of the answer.
"""

import json
import math
from typing import Any


def loads(data: bytes | str) -> Any:
    """The value.

    Raises:
        ValueError: it is not JSON, or a number is not finite.
    """
    return json.loads(data, parse_constant=_refuse, parse_float=_finite)


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is beyond every float")
    return value
