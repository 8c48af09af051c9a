"""Write docs/api.md from docs/templates/api.md and the source; ``--check`` compares it.

A line ``::: ngscale.spec.NgramSpec`` becomes that name's signature, docstring, fields and methods;
of a name that stands for values, its definition and the docstring below it. The source is read and
not run, so this needs neither torch nor numba.
"""

import ast
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "docs" / "templates" / "api.md"
TARGET = ROOT / "docs" / "api.md"
WIDTH = 96

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign


def render() -> str:
    """The whole page."""
    lines = []
    for line in TEMPLATE.read_text(encoding="utf-8").splitlines():
        lines += entry(line.removeprefix("::: ")) if line.startswith("::: ") else [line]
    return "\n".join(lines) + "\n"


def entry(name: str) -> list[str]:
    """The lines of one public name."""
    module, _, last = name.rpartition(".")
    found, text, source = _definition(module, last)
    written = source if isinstance(found, ast.Assign) else _signature(found)
    lines = [f"### `{name}`", "", "```python", written, "```", "", *_prose(text)]
    if isinstance(found, ast.ClassDef):
        members = [*_fields(found), *_methods(found)]
        lines += ["", "Fields and methods:", "", *members] if members else []
    return lines


def _definition(module: str, name: str) -> tuple[Definition, str, str]:
    """The node of a name, its docstring and its source."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    body = ast.parse(source).body
    for node, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            if text := ast.get_docstring(node):
                return node, text, ast.get_source_segment(source, node) or ""
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    return node, text, ast.get_source_segment(source, node) or ""
    sys.exit(f"{TEMPLATE.relative_to(ROOT)}: {module} has no {name} with a docstring")


def _signature(found: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(found, ast.FunctionDef):
        return _call(found.name, found.args, found.returns)
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return _call(found.name, node.args, None)
    fields = [ast.unparse(node) for node in found.body if isinstance(node, ast.AnnAssign)]
    is_keyword_only = any("kw_only=True" in ast.unparse(mark) for mark in found.decorator_list)
    return _broken(found.name, ["*", *fields] if is_keyword_only else fields, "")


def _call(
    name: str, arguments: ast.arguments, returns: ast.expr | None, width: float = WIDTH
) -> str:
    written = _arguments(arguments)
    if written and written[0] in ("self", "cls"):
        written = written[1:]
    return _broken(name, written, f" -> {ast.unparse(returns)}" if returns else "", width)


def _arguments(arguments: ast.arguments) -> list[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    written = [_argument(*pair) for pair in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        written.insert(len(arguments.posonlyargs), "/")
    if arguments.kwonlyargs:
        pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        written += ["*", *(_argument(*pair) for pair in pairs)]
    return written


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    typed = argument.arg
    if argument.annotation is not None:
        typed += f": {ast.unparse(argument.annotation)}"
    if default is None:
        return typed
    return f"{typed} = {ast.unparse(default)}"


def _broken(name: str, arguments: list[str], returns: str, width: float = WIDTH) -> str:
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= width:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])


def _prose(text: str) -> list[str]:
    """A docstring as Markdown: its code spans, its literal blocks and its Raises."""
    head, _, raises = text.partition("\nRaises:\n")
    lines = re.sub(r"::$", ":", head.replace("``", "`"), flags=re.MULTILINE).rstrip().splitlines()
    if raises:
        entries = re.sub(r"\n {8,}", " ", raises.replace("``", "`")).strip().splitlines()
        lines += ["", "Raises:", ""]
        lines += [re.sub(r"^(\w+):", r"- `\1`:", entry.strip()) for entry in entries]
    return lines


def _line(text: str) -> str:
    """A docstring on one line."""
    said = " ".join(" ".join(_prose(text)).split())
    return re.sub(r"Raises: - (`\w+`):", r"Raises \1:", said)


def _fields(found: ast.ClassDef) -> Iterator[str]:
    """Attributes that have a docstring below them."""
    for node, below in zip(found.body, found.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield f"- `{node.target.id}`: {_line(text)}"


def _methods(found: ast.ClassDef) -> Iterator[str]:
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node)
            assert text, f"{found.name}.{node.name} has no docstring"
            written = _call(node.name, node.args, node.returns, math.inf)
            if "property" in (ast.unparse(mark) for mark in node.decorator_list):
                written = written.replace("()", "", 1)
            yield f"- `.{written}`: {_line(text)}"


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    page = render()
    if sys.argv[1:] != ["--check"]:
        TARGET.write_text(page, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != page:
        sys.exit("docs/api.md is out of date; run: make docs")


if __name__ == "__main__":
    main()
