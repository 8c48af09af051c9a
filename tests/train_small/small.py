"""A corpus and a training set-up of seconds."""

from collections.abc import Sequence

import numpy as np

from ngscale.design import Design
from ngscale.records import RunRecord
from ngscale.tokens import TokenStream
from ngscale.train_small.candidates import Candidate
from ngscale.train_small.cells import CellStore
from ngscale.train_small.comparison import MARGIN_NATS, Comparison, Pair, compare_all
from ngscale.train_small.config import Training
from ngscale.train_small.run import Request, plan_job, run_job
from tests.model.small import DESIGN

TRAINING = Training(
    seq_len=16,
    batch_size=4,
    max_eval_blocks=8,
    num_evals=2,
    num_train_points=3,
    section_tokens=64,
)


def stream(num_tokens: int = 8_000) -> TokenStream:
    """A noisy cycle: the next token is often the current one plus 1."""
    rng = np.random.default_rng(0)
    steps = np.where(rng.random(num_tokens) < 0.7, 1, rng.integers(0, 63, num_tokens))
    tokens = (1 + np.cumsum(steps) % 63).astype(np.uint32)
    return TokenStream(
        tokens=tokens,
        doc_starts=np.array([0, num_tokens // 2, num_tokens]),
        vocab_size=64,
        num_bytes=4 * num_tokens,
    )


def request(
    *, num_seeds: int = 1, tokens: int | None = 640, hours: float = 0.1, design: Design = DESIGN
) -> Request:
    corpus = stream()
    return Request(
        candidates=(Candidate(design=design),),
        stream=corpus,
        source={"corpus": {"sha256_of_tokens": corpus.sha256()}},
        num_seeds=num_seeds,
        hours=hours,
        tokens=tokens,
        device="cpu",
        training=TRAINING,
    )


def train_small(asked: Request, store: CellStore) -> RunRecord:
    """Plan and run."""
    return run_job(plan_job(asked, store))[0]


def compare(
    baseline: str,
    design: Sequence[float],
    other: Sequence[float],
    *,
    margin: float = MARGIN_NATS,
) -> Comparison:
    """One comparison that stands alone."""
    return compare_all([Pair(baseline, design, other)], margin=margin)[0]
