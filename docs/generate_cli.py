"""Write docs/cli.md from the commands' own --help; ``--check`` fails when it is out of date."""

import os
import sys
from pathlib import Path

os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "96"

from typer.testing import CliRunner

from ngscale.cli import app

TARGET = Path(__file__).parent / "cli.md"
HEAD = """# Command line

Generated from `--help` by `make docs`; do not edit.

stdout is the answer, stderr the story. `--json` prints exactly one JSON document with a
`schema_version`. `--out DIR` writes README.md (first line: the answer), report.html
(self-contained), record.json, data/*.csv, figures/*.svg and .png. The record, data, figures and
report body are a pure function of the inputs; environment.json and the report's foot say when,
where and with what. `docs/schemas/VERB.json` is the JSON Schema of a verb's document, record.json
(which has no `environment`) included: every key, its types, and nothing beside.

| exit code | meaning |
| ---: | --- |
| 0 | ran |
| 1 | internal error (a bug; `--debug` shows the traceback) |
| 2 | usage |
| 3 | bad input file |
| 4 | unsafe input refused |
| 5 | network or authentication |
| 6 | out of memory, disk or time |
| 7 | a gate said no |
| 8 | an optional extra is missing (the message gives the pip command) |
| 9 | ran, but there is no valid result |
| 130 | interrupted |
"""


def render() -> str:
    """The whole page."""
    parts = [HEAD, _section("ngscale", [])]
    verbs = [command.name for command in app.registered_commands if command.name is not None]
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands if group.typer_instance else []
        verbs += [f"{group.name} {command.name}" for command in commands]
    parts += [_section(f"ngscale {verb}", verb.split()) for verb in verbs]
    return "\n".join(parts)


def _section(title: str, arguments: list[str]) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="ngscale")
    assert result.exit_code == 0, result.output
    text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
    return f"## {title}\n\n```\n{text}\n```\n"


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    page = render()
    if sys.argv[1:] != ["--check"]:
        TARGET.write_text(page, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != page:
        sys.exit("docs/cli.md is out of date; run: make docs")


if __name__ == "__main__":
    main()
