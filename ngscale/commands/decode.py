"""``ngscale decode``: a checkpoint and text -> drafts, their verification, their cost -> answer."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngscale.commands import isolation
from ngscale.commands.answer import (
    CorpusOption,
    JsonOption,
    OnBadRecordOption,
    OutOption,
    SplitOption,
    TextFieldOption,
    TokenizerOption,
    answer,
    torch_extra,
)
from ngscale.commands.isolation import DEFAULT_BATCHES
from ngscale.commands.source import read_source
from ngscale.errors import InputError, UsageError
from ngscale.train_small.threads import wait_asleep
from ngscale.units import parse_count, parse_whole

if TYPE_CHECKING:
    from ngscale.decode.subject import Text
    from ngscale.tokens import TokenStream
    from ngscale.train_small.data import Blocks

_LONGEST_DRAFT = 64


def decode(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CKPT]",
            help="A directory with config.json and safetensors of ngscale's decoder or of "
            "LongCat-Flash. Default: train-small's built-in design, trained for about a minute on "
            "the text and kept in the cache directory.",
        ),
    ] = None,
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    draft: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What drafts: none, lookup (in the prompt), table (a linear head on the n-gram "
            "embedding), model (a smaller one). Repeat for several. Default: lookup and table.",
        ),
    ] = None,
    draft_model: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A smaller checkpoint of the same vocabulary. Default for --draft model: one "
            "without tables, trained for about a minute on the first text and kept.",
        ),
    ] = None,
    draft_lengths: Annotated[
        str, typer.Option(metavar="K,K,...", help="Tokens of a draft.")
    ] = "1,2,4,8",
    head: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A table head that an earlier run saved."),
    ] = None,
    head_tokens: Annotated[
        str, typer.Option(metavar="N", help="Tokens that a table head is trained on (2M).")
    ] = "400K",
    head_rank: Annotated[
        int, typer.Option(metavar="R", min=0, help="Of the head's matrix; 0: full.")
    ] = 0,
    sequences: Annotated[
        int, typer.Option(metavar="N", min=1, help="Prompts of every text (each --corpus is one).")
    ] = 16,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="Sequences that are decoded together.")
    ] = 4,
    new_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Tokens generated behind every prompt.")
    ] = 64,
    prompt_tokens: Annotated[
        int, typer.Option(metavar="N", help="Tokens of a prompt, held-out text; at least 2.")
    ] = 64,
    temperature: Annotated[
        float, typer.Option(metavar="T", min=0.0, help="Of sampling; 0 is greedy.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(metavar="P", help="Share that the fewest likely tokens hold.")
    ] = 1.0,
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of sampling, heads, draws."),
    ] = 0,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, ...")] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="float32, bfloat16 or float64.")
    ] = "float32",
    early_rejection: Annotated[
        bool,
        typer.Option(
            "--early-rejection",
            help="Measure what drops table drafts before verification, by scores of n-gram rows.",
        ),
    ] = False,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate",
            help="Time each part of a step instead, of CKPT's design, its equal-total MoE and "
            "tables of one row, weights as they are initialised. CKPT may be a config.json.",
        ),
    ] = False,
    batches: Annotated[
        str, typer.Option(metavar="B,B,...", help="With --isolate: sequences of a step.")
    ] = DEFAULT_BATCHES,
    context_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="With --isolate: tokens read before the step.")
    ] = 256,
    text_field: TextFieldOption = "text",
    split: SplitOption = "train",
    on_bad_record: OnBadRecordOption = "error",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """What drafts from n-gram tables give in decoding, without changing what comes out.

    With --out, a table head and every measurement are kept there, and the same command takes them
    up again. --isolate times the parts of a step instead.

    Example: ngscale decode --early-rejection --out report
    """
    lengths = _lengths(draft_lengths)
    if prompt_tokens < 2:
        raise UsageError(f"--prompt-tokens {prompt_tokens}: takes 2 or more")
    if not math.isfinite(temperature):
        raise UsageError(f"--temperature {temperature}: takes a number, 0 for greedy")
    if not 0 < top_p <= 1:
        raise UsageError(f"--top-p {top_p}: takes a share above 0, at most 1")
    wait_asleep()
    reading: dict[str, Any] = {
        "text_field": text_field,
        "split": split,
        "on_bad_record": on_bad_record,
    }
    if isolate:
        isolation.run(
            isolation.Wanted(
                checkpoint=checkpoint,
                batches=batches,
                context_tokens=context_tokens,
                draft_length=max(lengths),
                corpus=corpus,
                tokenizer=tokenizer,
                source_options=reading,
                device=device,
                dtype=dtype,
                as_json=as_json,
                out=out,
            )
        )
        return
    with torch_extra():
        from ngscale.decode.measure import Setting
        from ngscale.decode.run import DRAFTS, Request, check, make_head, needs_head, num_items
        from ngscale.decode.run import decode as run_decode
        from ngscale.decode.sampling import Sampling
        from ngscale.decode.subject import load_subject
        from ngscale.decode.summary import build_report
        from ngscale.decode.table_head import HeadTraining
        from ngscale.probe.windows import tokenizer_name
        from ngscale.train_small.built_in import STEPS, built_in_checkpoint, draft_design
        from ngscale.train_small.config import DEFAULT_TOKENIZER
    from dataclasses import asdict

    import numpy as np

    from ngscale.artefacts import cache_dir
    from ngscale.console import progress, say
    from ngscale.corpus import default_sources
    from ngscale.records import digest
    from ngscale.tokens import is_bin

    drafts = tuple(dict.fromkeys(draft or ("lookup", "table")))
    for name in drafts:
        if name not in DRAFTS:
            raise UsageError(f"--draft {name}: takes {', '.join(DRAFTS)}")
    if draft_model is not None and "model" not in drafts:
        drafts = (*drafts, "model")
    training = HeadTraining(tokens=parse_count(head_tokens), rank=head_rank, seed=seed)
    sources = corpus or default_sources()
    if is_bin(sources):
        raise UsageError("--corpus: decode takes text, not a .bin of token ids")
    subject = None if checkpoint is None else load_subject(checkpoint, device=device, dtype=dtype)
    if tokenizer is None and checkpoint is not None and subject is not None:
        config = subject.decoder.config
        tokenizer = tokenizer_name(checkpoint, vocab_size=config.vocab_size, is_own=True)
    groups = [[one] for one in corpus] if corpus else [sources]
    read = [read_source(one, tokenizer or DEFAULT_TOKENIZER, **reading) for one in groups]
    cut = [_blocks(stream, prompt_tokens) for stream, _ in read]
    if subject is None:
        say("no checkpoint given: the built-in design is trained, or found in the cache directory")
        stream = read[0][0]
        with progress("training steps", STEPS) as advance:
            made = built_in_checkpoint(stream, cut[0], cache_dir(), advance=advance)
        subject = load_subject(made, device=device, dtype=dtype)
    if draft_model is None and "model" in drafts:
        vocab_size = subject.decoder.config.vocab_size
        if read[0][0].vocab_size > vocab_size:
            raise InputError(
                f"the text has {read[0][0].vocab_size} ids, the model's vocabulary {vocab_size}; "
                "--tokenizer takes the one it was trained with"
            )
        say("no draft model given: a small one is trained, or found in the cache directory")
        small = draft_design(vocab_size)
        with progress("training steps", STEPS) as advance:
            draft_model = built_in_checkpoint(
                read[0][0], cut[0], cache_dir(), design=small, advance=advance
            )
    texts = tuple(
        _text(described["corpus"]["name"], blocks, sequences, prompt_tokens)
        for (_, described), blocks in zip(read, cut, strict=True)
    )
    inputs = {
        "tokenizer": read[0][1]["tokenizer"],
        "texts": [described["corpus"] for _, described in read],
    }
    keep = out if out is not None else cache_dir() / "decode"
    name = digest({"model": subject.files, **inputs, "training": asdict(training)})
    request = Request(
        subject=subject,
        draft_model=(
            None if draft_model is None else load_subject(draft_model, device=device, dtype=dtype)
        ),
        drafts=drafts,
        draft_lengths=lengths,
        texts=texts,
        train_blocks=np.concatenate([_sample(blocks, training.tokens, seed) for blocks in cut]),
        held_out_blocks=cut[0].held_out.take(range(min(16, len(cut[0].held_out)))),
        head_training=training,
        head=head,
        head_path=keep / "heads" / f"{name}.safetensors",
        setting=Setting(
            new_tokens=new_tokens,
            batch=batch,
            sampling=Sampling(temperature=temperature, top_p=top_p),
            seed=seed,
        ),
        early_rejection=early_rejection,
        out=out,
        inputs=inputs,
    )
    check(request)
    made_head = None
    if needs_head(request):
        with progress("head steps", training.num_steps) as advance:
            made_head = make_head(request, advance)
    with progress("measurements", num_items(request)) as done:
        record = run_decode(request, made_head, done=done)
    answer(record, build_report(record), as_json=as_json, out=out)


def _lengths(text: str) -> tuple[int, ...]:
    lengths = {parse_whole(part, _LONGEST_DRAFT) for part in text.split(",")}
    if 0 in lengths:
        raise UsageError(
            f"--draft-lengths {text}: takes numbers from 1 to {_LONGEST_DRAFT}, as 1,2,4,8"
        )
    return tuple(sorted(lengths))


def _blocks(stream: "TokenStream", prompt_tokens: int) -> "Blocks":
    """Cut as train-small cuts, so that what it held out is held out here."""
    from ngscale.train_small.config import TRAINING
    from ngscale.train_small.data import cut_blocks

    return cut_blocks(
        stream,
        separator=0,
        seq_len=max(TRAINING.seq_len, prompt_tokens),
        held_out_frac=TRAINING.held_out_frac,
        section_tokens=TRAINING.section_tokens,
        min_train=1,
    )


def _text(name: str, blocks: "Blocks", sequences: int, prompt_tokens: int) -> "Text":
    """Held-out blocks, evenly spaced, in turn for prompts and for calibration."""
    import numpy as np

    from ngscale.decode.subject import Text

    number = len(blocks.held_out)
    if number < 2 * sequences:
        raise InputError(
            f"{name}: has {number} held-out blocks, --sequences {sequences} needs {2 * sequences}; "
            "use a larger corpus or fewer sequences"
        )
    chosen = np.linspace(0, number - 1, 2 * sequences).astype(int).tolist()
    starts = blocks.held_out.take(chosen)[:, :prompt_tokens]
    return Text(name=name, prompts=starts[::2], calibration=starts[1::2])


def _sample(blocks: "Blocks", tokens: int, seed: int) -> Any:
    """As many training blocks as hold so many tokens, drawn without repetition."""
    import numpy as np

    wanted = -(-tokens // (blocks.train.width - 1))
    order = np.random.default_rng(seed).permutation(len(blocks.train))[:wanted]
    return blocks.train.take(np.sort(order).tolist())
