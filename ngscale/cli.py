"""The Typer app: registration, and the one place where errors become exit codes."""

import errno
import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ngscale import __version__
from ngscale.commands import (
    audit,
    budget,
    cache,
    collisions,
    corpora,
    decode,
    ids,
    plan,
    probe,
    train_small,
)
from ngscale.errors import InputError, NgscaleError, UsageError
from ngscale.free_memory import address_space_bytes, expect_start
from ngscale.printable import printable
from ngscale.units import MAX_WHOLE
from ngscale.watched import go_on_in_a_child
from ngscale.whole_files import FULL

EXIT_CODES = """Exit codes: 0 ran; 1 internal error; 2 usage; 3 bad input file; 4 unsafe input
refused; 5 network or authentication; 6 out of memory, disk or time; 7 a gate said no; 8 an
optional extra is missing; 9 ran, but there is no valid result; 130 interrupted."""


class _Group(TyperGroup):
    """Turns what a verb raises into one line on stderr, with --debug into its traceback, and the
    documented exit code.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of stdout (`| head`) has gone, which is no error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (Exception, KeyboardInterrupt) as error:
            if type(error).__module__.startswith("typer"):
                raise
            code, line = _describe(error)
            if ctx.params.get("debug"):
                line = "".join(traceback.format_exception(error)).rstrip()
            if "huggingface_hub" in sys.modules:  # else nobody was asked
                from ngscale.hub import without_token

                line = without_token(line)
            print(printable(line), file=sys.stderr)
            raise typer.Exit(code) from None


class _Command(TyperCommand):
    """Refuses whole numbers that no count can be."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest: list[str] = super().parse_args(ctx, args)
        for param in self.params:
            value = ctx.params.get(param.name)
            if isinstance(value, int) and abs(value) > MAX_WHOLE:
                option = max(param.opts, key=len)
                raise UsageError(f"{option}: is beyond 64 bits; write at most {MAX_WHOLE}")
        return rest


def _describe(error: BaseException) -> tuple[int, str]:
    """The exit code of an exception, and the one line that says what happened."""
    match error:
        case NgscaleError():
            return error.exit_code, f"error: {' '.join(str(error).split())}"
        case KeyboardInterrupt():
            return 130, "interrupted"
        case OSError(errno=number) if number in FULL:
            place = f"{error.filename}: " if error.filename else ""
            return 6, f"error: {place}the disk is full"
        case _ if _is_out_of_memory(error):
            limit = "" if address_space_bytes() is None else ", or raise ulimit -v"
            return 6, f"error: out of memory; use a smaller corpus or smaller tables{limit}"
        case OSError(filename=str() as path, strerror=str() as why):
            return InputError.exit_code, f"error: {path}: {why}"
        case _:
            kind = type(error).__name__
            return 1, f"error: internal: {kind}: {error} (--debug shows where)"


_OUT_OF_MEMORY = (
    "allocate memory",  # PyTorch on the CPU; the loader of shared libraries
    "out of memory",  # PyTorch on CUDA
    "failed to map segment",  # the loader, under a limit of address space
    "can't start new thread",  # there is no room for its stack
    "can't allocate lock",
)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what an exception says, of whatever type the library made it."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError) and any(
        words in str(error) for words in _OUT_OF_MEMORY
    )


app = typer.Typer(
    cls=_Group,
    name="ngscale",
    help="Plan the hashed n-gram embedding tables of a language model.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ngscale {__version__}")
        raise typer.Exit


@app.callback()
def ngscale(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Plan the hashed n-gram embedding tables of a language model."""
    expect_start(ctx.invoked_subcommand or "")


app.command("collisions", cls=_Command)(collisions.collisions)
app.command("audit", cls=_Command)(audit.audit)
app.command("budget", cls=_Command)(budget.budget)
app.command("ids", cls=_Command)(ids.ids)
app.command("probe", cls=_Command)(probe.probe)
app.command("decode", cls=_Command)(decode.decode)
app.command("train-small", cls=_Command)(train_small.train_small)
app.command("cache", cls=_Command)(cache.cache)
app.command("plan", cls=_Command)(plan.plan)
app.add_typer(corpora.app, name="corpora")


def main() -> None:
    """The console script. SIGTERM ends a run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    go_on_in_a_child()
    app()
