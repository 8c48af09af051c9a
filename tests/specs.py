"""Specs of every hash and every policy, with tokens to match, for property tests."""

from typing import NamedTuple

from hypothesis import strategies as st

from ngscale.policy import Policy, Start, mode_policy
from ngscale.spec import Hash, NgramSpec, PolynomialHash, XorHash


class Case(NamedTuple):
    """What a twin gets."""

    spec: NgramSpec
    tokens: list[int]
    segments: list[int] | None
    dead: list[bool] | None


@st.composite
def policies(draw: st.DrawFn, vocab_size: int) -> Policy:
    """Any policy without a reserved row."""
    token = st.integers(0, vocab_size - 1)
    boundaries = tuple(draw(st.lists(token, max_size=2, unique=True)))
    ignored = []
    for first in draw(st.lists(token, max_size=2)):
        ignored.append((first, first + draw(st.integers(1, 3))))
    rules = ["ordinary", "zero", "zero_close", "exclude", "last_row"]
    return Policy(
        boundary_tokens=boundaries,
        at_boundary=draw(st.sampled_from(["lookback", "row_zero"])) if boundaries else "lookback",
        fill=draw(st.sampled_from([0, vocab_size - 1]) | token),
        start=draw(st.sampled_from(["fill", "row_zero"])),
        ignored_tokens=tuple(ignored),
        ignored_rule=draw(st.sampled_from(rules)) if ignored else "ordinary",
        zero_id=draw(st.sampled_from(["ordinary", "closes"])),
        documents=draw(st.sampled_from(["boundary_tokens", "segment_ids", "none"])),
        dead_tokens=draw(st.sampled_from(["ordinary", "block"])),
    )


def sample_policies() -> list[Policy]:
    """Each rule at least once; their ids are below 11."""
    special = ((3, 5), (8, 9))
    return [
        mode_policy("hf", 2),
        Policy(start="row_zero", documents="none"),
        Policy(boundary_tokens=(2, 7), at_boundary="row_zero", fill=4),
        Policy(
            ignored_tokens=special,
            ignored_rule="zero_close",
            zero_id="closes",
            boundary_tokens=(2,),
        ),
        Policy(ignored_tokens=special, ignored_rule="exclude"),
        Policy(ignored_tokens=special, ignored_rule="last_row", boundary_tokens=(2,)),
        Policy(documents="segment_ids", dead_tokens="block", fill=9),
    ]


@st.composite
def hashes(draw: st.DrawFn, vocab_size: int, num_tables: int, max_order: int) -> Hash:
    """Any hash, its arithmetic exact for the vocabulary."""
    kind = draw(st.sampled_from(["exact", "uint32", "int64", "xor", "int32"]))
    odd = st.integers(0, (2**62 - 1) // vocab_size).map(lambda half: 2 * half + 1)
    if kind == "xor":
        return XorHash(multipliers=tuple(draw(st.tuples(*[odd] * max_order))))
    if kind == "int32":
        small = st.integers(0, 2**17).map(lambda half: 2 * half + 1)
        return XorHash(multipliers=tuple(draw(st.tuples(*[small] * max_order))), arithmetic="int32")
    base = st.integers(2, 300) | st.sampled_from([vocab_size, 131_072, 5_915_587_277])
    if kind == "int64":
        bases = tuple(draw(st.tuples(*[base] * num_tables)))
        return PolynomialHash(
            base=bases[0],
            table_bases=draw(st.sampled_from([(), bases])),
            arithmetic="int64",
            oldest_first=draw(st.booleans()),
        )
    return PolynomialHash(base=draw(base), arithmetic="exact" if kind == "exact" else "uint32")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A spec and a sequence whose ids meet its policy often."""
    vocab_size = draw(st.integers(2, 40) | st.sampled_from([32_768, 131_072, 282_624]))
    orders = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    rows = st.integers(1, 500) | st.integers(1, 2**31 - 1)
    policy = draw(policies(vocab_size))
    if len(orders) == 1 and draw(st.booleans()):
        starts: list[Start] = ["reserved_row", "reserved_row_kept"]
        policy = Policy(start=draw(st.sampled_from(starts)), documents="none")
    spec = NgramSpec(
        hash=draw(hashes(vocab_size, len(orders), max(orders))),
        vocab_size=vocab_size,
        table_orders=orders,
        table_rows=tuple(draw(st.tuples(*[rows] * len(orders)))),
        reserved_rows=1 if policy.start.startswith("reserved") else 0,
        policy=policy,
    )
    special = [0, vocab_size - 1, *policy.boundary_tokens]
    special += [min(first, vocab_size - 1) for first, _ in policy.ignored_tokens]
    token = st.sampled_from(special) | st.integers(0, vocab_size - 1)
    length = draw(st.integers(1, 30))
    tokens = draw(st.lists(token, min_size=length, max_size=length))
    numbers = st.lists(st.integers(-1, 2), min_size=length, max_size=length).map(sorted)
    flags = st.lists(st.booleans(), min_size=length, max_size=length)
    segments = draw(numbers | st.none()) if policy.documents == "segment_ids" else None
    dead = draw(flags | st.none()) if policy.dead_tokens == "block" else None
    return Case(spec, tokens, segments, dead)
