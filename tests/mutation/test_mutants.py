"""The changes that are made, and the table of what became of the drawn ones."""

import ast
from pathlib import Path

import pytest

from tests.mutation.mutants import KILLED, NUM_MUTANTS, read_verdicts, sample
from tests.mutation.operators import apply, changes

TEXT = {
    "a < b": {"a <= b", "a >= b"},
    "a == b": {"a != b"},
    "a in b": {"a not in b"},
    "a + b * c": {"a - b * c", "a + (b + c)"},
    "a ** 2": {"a * 2", "a ** 3", "a ** 1"},
    "x += a": {"x -= a", "pass"},
    "a and b": {"a or b"},
    "not a": {"a"},
    "x = True": {"x = False"},
    "x = 0.5": {"x = 0.25"},
    "x = 'word'": {"x = 'word_'"},
    "a[b:]": {"a[:]"},
    "min(a)": {"max(a)", "pass"},
    "np.any(a)": {"np.all(a)", "pass"},
    "f(a)": {"pass"},
    "a.b = c": {"pass"},
    "x = a if b else c": {"x = a if not b else c"},
    "[a for a in b if a]": {"[a for a in b if not a]"},
    "while a:\n    continue": {"while not a:\n    continue", "while a:\n    break"},
    "raise Error('not changed', 3)": {"pass"},
    "x = f'words {a + b:02d}'": {"x = f'words {a - b:02d}'"},
    "import a": set(),
    "assert a == 3": set(),
    "def f(a: int | None) -> int | None:\n    'Words.'\n    return a": set(),
    "@cache(3)\ndef f(a=None):\n    return a": set(),
    "if TYPE_CHECKING:\n    x = 3": set(),
    "Kind = Literal['a', 'b']": set(),
}


@pytest.mark.parametrize("text", TEXT)
def test_every_change_of_a_text(text: str) -> None:
    found = []
    for number in range(len(changes(ast.parse(text)))):
        tree = ast.parse(text)
        found.append(ast.unparse(apply(tree, changes(tree)[number])))
    assert len(found) == len(set(found))
    assert set(found) == TEXT[text]


def test_functions_that_are_not_named_stay() -> None:
    tree = ast.parse("x = 1\ndef f():\n    return 2\ndef g():\n    return 3")
    assert [ast.unparse(change.node) for change in changes(tree, ("g",))] == ["3", "3"]
    assert len(changes(tree)) == 6


def test_the_drawn_are_always_the_same() -> None:
    drawn = sample()
    assert drawn == sample()
    assert len({mutant.key for mutant in drawn}) == NUM_MUTANTS


def test_of_the_kept_verdicts_survivors_are_few_and_judged() -> None:
    """The list stays as drawn from the code of its time."""
    kept = read_verdicts()
    survivors = [row for row in kept.values() if row["verdict"] not in KILLED]
    assert len(kept) == NUM_MUTANTS
    assert len(survivors) <= 0.15 * len(kept)
    table = (Path(__file__).parent / "survivors.md").read_text("utf-8")
    for row in survivors:
        place = f"| {row['module'].removeprefix('ngscale.')}:{row['line']}:{row['column']} |"
        assert place in table, place
