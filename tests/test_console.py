import pytest

from ngscale import console


def test_without_a_terminal_progress_is_plain_lines_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("ngscale.console.time.monotonic", lambda: float(next(clock)))
    with console.progress("tables", 4) as done:
        for _ in range(4):
            done()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "tables (4)",
        "tables: 50%, 0.1/s, 20 s left",
        "tables: 100%, 0.1/s, 0 s left",
    ]
