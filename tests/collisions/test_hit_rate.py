import numpy as np
import pytest

from ngscale.collisions.hit_rate import hit_rates
from ngscale.collisions.threads import nobody
from ngscale.errors import UsageError
from ngscale.hashing.longcat import Polynomial
from tests.reference import polynomial_row
from tests.test_ngrams import stream_of


def test_hit_rates_match_plain_counting() -> None:
    rng = np.random.default_rng(0)
    docs = [rng.integers(0, 7, size=n).tolist() for n in (30, 1, 50, 45)]
    flat = [token for doc in docs for token in doc]
    owner = [index for index, doc in enumerate(docs) for _ in doc]
    points = hit_rates(
        stream_of(docs),
        Polynomial(base=7),
        orders=(2, 3),
        table_rows=40,
        length=10,
        done=nobody,
    )
    assert max(point.sequences for point in points) == len(flat) // 10
    for point in points:
        seen = set()
        for p in range(point.sequences * 10):
            back = point.order - 1
            if p % 10 >= back and owner[p - back] == owner[p]:
                gram = [flat[p - s] for s in range(point.order)]
                seen.add(polynomial_row(gram, 7, 40))
        assert point.touched == len(seen), point


def test_a_corpus_shorter_than_a_sequence_is_refused() -> None:
    with pytest.raises(UsageError, match="less than one sequence"):
        hit_rates(
            stream_of([[1, 2]]),
            Polynomial(base=7),
            orders=(2,),
            table_rows=4,
            length=10,
            done=nobody,
        )
