"""Stage 2: which table sizes to use instead, measured on the text where there is any."""

from pathlib import Path
from typing import Any

from ngscale.plan.request import Request, Text
from ngscale.plan.stages import Made, Stage
from ngscale.spec import NgramSpec, check_hashed

NAME = "2-sizes"
UNKNOWN = "How often the tables' n-grams share rows on your text, and which sizes do better."

_EMBEDDED = (("bpe-32768", 32_768), ("bpe-4096", 4096))


def sizes_stage(request: Request, spec: NgramSpec) -> Stage:
    """``ngscale collisions TARGET --recommend --corpus ...`` for tables of LongCat's hash.

    Raises:
        UsageError: the tokenizer has ids that the tables do not hash.
        NgscaleError: whatever the text cannot be read for.
    """
    target, stream, source = request.target, None, dict[str, Any]()
    if request.text is not None:
        stream, read = request.text.read(_tokenizer(request, request.text, spec))
        source = dict(read)
        check_hashed(target.name, spec, stream.vocab_size)

    def make(directory: Path) -> Made:
        del directory
        from ngscale.collisions import recommend
        from ngscale.collisions.recommend_run import (
            Sizing,
            budget_of,
            recommend_sizes,
        )
        from ngscale.console import progress

        sizing = Sizing(
            target=target.name,
            budget=budget_of(spec, target.config),
            config=target.config,
            current=spec.table_rows,
            hidden_size=target.config.get("hidden_size"),
        )
        record = recommend_sizes(sizing, stream, source, progress)
        return Made(record=record, report=recommend.build_report(record))

    return Stage(
        name=NAME,
        inputs={"target": target.name, "config_sha256": target.sha256, **source},
        make=make,
        argv=_argv(request),
    )


def _argv(request: Request) -> tuple[str, ...]:
    """The default text has no name on the command line but in a plan."""
    if request.text is not None and not request.argv:
        return ("plan", request.named)
    named = None if request.text is None else request.text.tokenizer
    tokenizer = () if named is None else ("--tokenizer", named)
    return ("collisions", request.named, "--recommend", *request.argv, *tokenizer)


def _tokenizer(request: Request, text: Text, spec: NgramSpec) -> str | None:
    """The one named, the one beside the config.json, or an embedded one whose ids are hashed."""
    if text.is_ids or text.tokenizer is not None:
        return text.tokenizer
    beside = request.target.path.parent / "tokenizer.json"
    if beside.is_file():
        return str(beside)
    return next((name for name, size in _EMBEDDED if size <= spec.vocab_size), None)
