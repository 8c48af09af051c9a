"""Commands as documents print them: found, parsed by the program, run in a shell.

Which fenced blocks run is said by their word: ```sh is one script; ```console is commands behind
``$ `` (continued behind ``> ``) with some of their output beneath. What stands between two lines
``...``, or above the first, or below the last, must be in the output word for word, however it is
broken into lines. Blocks without a word are parsed and not run.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.core import TyperGroup
from typer.main import get_command

from ngscale.cli import app

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAMS = ("ngscale ", "make ", "python ", "torchrun ")
_SPAN = re.compile(rf"`((?:{'|'.join(_PROGRAMS)})[^`]+)`")
_OPERATORS = set("();<>|&")
_RUN = ("sh", "console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a document."""

    word: str
    text: str
    line: int
    """Its first line in the document, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a reader would type, and what they would be shown."""

    text: str
    shown: tuple[str, ...]
    line: int


def blocks(page: str) -> list[Block]:
    """Every fenced block."""
    return [
        Block(word=found[1], text=found[2], line=page.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(page)
    ]


def spans(page: str) -> list[str]:
    """Commands in running text; those in blocks are not among them."""
    return [" ".join(found.split()) for found in _SPAN.findall(_FENCE.sub("", page))]


def to_run(page: str) -> list[Command]:
    """The commands of all blocks that run, in order."""
    return [command for block in blocks(page) if block.word in _RUN for command in typed(block)]


def typed(block: Block) -> list[Command]:
    """The commands of one block."""
    if block.word != "console":
        return [Command(text=block.text, shown=(), line=block.line)]
    commands: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            commands.append(Command(text=line[2:], shown=(), line=number))
            continue
        assert commands, f"line {number}: output before any command"
        last = commands[-1]
        if line.startswith("> ") and not last.shown:
            text, shown = f"{last.text}\n{line[2:]}", last.shown
        else:
            text, shown = last.text, (*last.shown, line)
        commands[-1] = Command(text=text, shown=shown, line=last.line)
    return commands


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of every command of a script: no comments, here-documents, redirections."""
    script = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", script, flags=re.MULTILINE | re.DOTALL)
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        target = False
        for word in lexer:
            if set(word) <= _OPERATORS:
                target = "<" in word or ">" in word
                if not target:
                    yield from _stripped(words)
                    words = []
            elif not target:
                words.append(word)
            else:
                target = False
        yield from _stripped(words)


def _stripped(words: list[str]) -> Iterator[list[str]]:
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words:
        yield words


def scripts(page: str) -> Iterator[tuple[str, bool]]:
    """All that a page tells its reader to type; False where it is only mentioned in a sentence."""
    for block in blocks(page):
        if block.word in _RUN:
            for command in typed(block):
                yield command.text, True
        elif not block.word:
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith(_PROGRAMS):
                    yield line, True
    for span in spans(page):
        yield span, False


def check(words: list[str], checkout: Path, *, whole: bool = True) -> None:
    """Raise if ``words`` are a command of ours that the program would not take.

    Not ``whole``: arguments may be missing, as in "`ngscale probe` says ...".

    Raises:
        AssertionError: no such target of make, or no such script.
        typer's usage errors: no such verb, option or choice.
    """
    match words:
        case ["ngscale", *rest] | ["python", "cli.py", *rest] | ["python", "-m", "ngscale", *rest]:
            parse(rest if whole else [*rest, "--help"])
        case ["torchrun", *rest] if "ngscale" in rest:
            parse(rest[rest.index("ngscale") + 1 :])
        case ["make", *targets]:
            known = re.findall(r"^([\w-]+):", (checkout / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(known), f"make {targets}: no such target"
        case ["python", "-m", module, *_]:
            file = checkout / module.replace(".", "/")
            assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), module
        case ["python", script, *_] if script.startswith(("benchmarks/", "corpora/", "docs/")):
            assert (checkout / script).is_file(), script


def parse(arguments: list[str]) -> None:
    """Read ``ngscale ARGUMENTS`` as the program does, down to the values' types, and stop there."""
    command = get_command(app)
    try:
        context = command.make_context("ngscale", list(arguments))
        while rest := [*context._protected_args, *context.args]:
            assert isinstance(command, TyperGroup), rest
            name, found, arguments = command.resolve_command(context, rest)
            assert found is not None, name
            command = found
            context = command.make_context(name, arguments, parent=context)
    except typer.Exit:  # --help
        return


def run(command: Command, directory: Path, checkout: Path) -> None:
    """Run a command in a shell where ``ngscale`` is this checkout's; compare what is shown.

    Raises:
        AssertionError: it failed, or a line that is shown is not in what it printed.
    """
    scripts = directory / ".bin"
    if not scripts.exists():
        scripts.mkdir()
        for name, rest in (("ngscale", " -m ngscale"), ("python", "")):
            (scripts / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{rest} "$@"\n')
            (scripts / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "-e", "-c", command.text],
        cwd=directory,
        env={
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(checkout),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"line {command.line}: {command.text}\n{done.stdout}"
    printed = f" {' '.join(done.stdout.split())} "
    for shown in _pieces(command.shown):
        assert f" {shown} " in printed, f"line {command.line}: not printed: {shown}\n{done.stdout}"


def _pieces(shown: Sequence[str]) -> list[str]:
    pieces = "\n".join(shown).split("\n...")
    return [found for piece in pieces if (found := " ".join(piece.removeprefix("...").split()))]
