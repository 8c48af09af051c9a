"""``ngscale collisions --recommend``: options -> budget -> proposals -> answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.errors import UsageError
from ngscale.spec import check_hashed


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for; sizes of a target go before options."""

    target: str | None
    orders: tuple[int, int]
    num_subtables: int
    ratio: float | None
    rows: int | None
    parameters: int | None
    hidden_size: int | None
    tensor_parallel: int
    padding: int
    family: str | None
    corpus: Sequence[str] | None
    tokenizer: str | None
    vocab_size: int | None
    source_options: dict[str, Any]
    max_memory_bytes: int | None
    as_json: bool
    out: Path | None


def run(wanted: Wanted) -> None:
    """Propose, measure where there is a corpus, answer.

    Raises:
        UsageError: no budget, two, or one that lacks a number.
        NoResultError: nothing sound within the budget.
    """
    from ngscale.collisions import recommend
    from ngscale.collisions.proposals import Budget, parse_families
    from ngscale.collisions.recommend_run import (
        Sizing,
        budget_of,
        ratio_in_use,
        recommend_sizes,
    )
    from ngscale.collisions.run import Counting
    from ngscale.commands.answer import answer
    from ngscale.commands.source import read_source, run_directory
    from ngscale.console import progress
    from ngscale.spec import order_major

    families = parse_families(wanted.family)
    spec, config = _target(wanted)
    stream, source = None, dict[str, Any]()
    if wanted.corpus is not None:
        vocab_size = wanted.vocab_size if _is_bin(wanted.corpus) else None
        stream, source = read_source(
            wanted.corpus, wanted.tokenizer, vocab_size=vocab_size, **wanted.source_options
        )
    base = _base(wanted, spec, None if stream is None else stream.vocab_size)
    low, high = wanted.orders
    if spec is None and low != 2:
        raise UsageError("--orders: a design has every order from 2 on; write 2:N")
    hidden_size = wanted.hidden_size or config.get("hidden_size")
    _refuse_two_budgets(wanted, has_target=spec is not None)
    if spec is not None and wanted.rows is None and wanted.parameters is None:
        budget = budget_of(spec, config, multiple=_multiple(wanted))
    else:
        orders = order_major(high, wanted.num_subtables) if spec is None else spec.table_orders
        width = None if hidden_size is None else hidden_size // len(orders)
        budget = Budget(
            base=base,
            orders=orders,
            total_rows=_total_rows(wanted, base, len(orders), width),
            multiple=_multiple(wanted),
            ratio=wanted.ratio if spec is None else ratio_in_use(config),
        )
    sizing = Sizing(
        target=None if wanted.target is None else _title(wanted.target),
        budget=budget,
        config=config,
        current=None if spec is None else spec.table_rows,
        hidden_size=hidden_size,
        families=families,
    )
    memory = wanted.max_memory_bytes
    directory = None if memory is None or stream is None else run_directory(source, "hf")
    counting = Counting(max_memory_bytes=memory, directory=directory)
    record = recommend_sizes(sizing, stream, source, progress, counting)
    answer(record, recommend.build_report(record), as_json=wanted.as_json, out=wanted.out)


def _target(wanted: Wanted) -> tuple[Any, dict[str, Any]]:
    """The target's spec and config.json, or nothing."""
    if wanted.target is None:
        return None, {}
    from ngscale.config_reader import read_config
    from ngscale.ngram_config import specs_of
    from ngscale.presets import resolve

    reader = read_config(resolve(wanted.target))
    spec, *others = specs_of(reader)
    if others or spec.hash_base is None:
        raise UsageError(f"{wanted.target}: is no polynomial in one base; no sizes to recommend")
    return spec, dict(reader.values)


def _title(target: str) -> str:
    from ngscale.presets import title

    return title(target)


def _is_bin(corpus: Sequence[str]) -> bool:
    from ngscale.tokens import is_bin

    return is_bin(list(corpus))


def _base(wanted: Wanted, spec: Any, stream_vocab_size: int | None) -> int:
    """The hash base: the target's, the corpus's, the tokenizer's, or a number."""
    if spec is not None:
        if stream_vocab_size is not None:
            check_hashed(str(wanted.target), spec, stream_vocab_size)
        base: int = spec.hash_base
        return base
    if stream_vocab_size is not None:
        return stream_vocab_size
    if wanted.vocab_size is not None:
        return wanted.vocab_size
    if wanted.tokenizer is not None:
        from ngscale.tokenizer import load_tokenizer

        return load_tokenizer(wanted.tokenizer).vocab_size
    raise UsageError("--recommend needs a target, a --tokenizer, a --corpus or --vocab-size V0")


def _refuse_two_budgets(wanted: Wanted, *, has_target: bool) -> None:
    given = {
        "--rows": wanted.rows,
        "--params": wanted.parameters,
        "--ratio": None if has_target else wanted.ratio,
    }
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} are both a budget; keep one")


def _total_rows(wanted: Wanted, base: int, num_tables: int, width: int | None) -> int:
    if wanted.rows is not None:
        return wanted.rows
    if wanted.parameters is not None:
        if not width:
            raise UsageError("--params needs --hidden-size D: a table has D // E columns")
        return wanted.parameters // width
    if wanted.ratio is not None:
        # The loader's own sizes at this ratio: int(ratio*V + 2i + 1).
        return (
            int(wanted.ratio * base * num_tables) + num_tables**2 + _multiple(wanted) * num_tables
        )
    raise UsageError("--recommend needs a budget: --rows, --params with --hidden-size, or --ratio")


def _multiple(wanted: Wanted) -> int:
    from math import lcm

    return lcm(wanted.tensor_parallel, wanted.padding)
