"""``ngscale plan`` from the outside: answers, refusals, files, what is missing."""

import fcntl
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ngscale import report
from ngscale.cli import app
from ngscale.design import read_design
from ngscale.plan.choices import MOE, OWN
from tests.plan.small import write_config, write_text

STAGES = ["1-audit", "2-sizes", "3-candidates", "4-proxies", "5-schedule", "6-train-own-share"]
SOUND = "resonance,structured-sharing,base-gcd"
FEW = ("--tokens", "1024", "--seeds", "1", "--candidates", "1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, which a busy neighbour does not stall, and no figures, a second each."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(report, "can_draw", lambda: False)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    directory = tmp_path_factory.mktemp("inputs")
    return write_config(directory), write_text(directory)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


@pytest.fixture(scope="module")
def whole(inputs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """One finished plan, which tests read and do not change."""
    out = tmp_path_factory.mktemp("whole") / "plan"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        result = run(inputs[0], "--corpus", inputs[1], *FEW, "--json", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    return out, result


def states(document: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in document["stages"]}


def test_a_plan_begins_with_the_decision_and_ends_with_files_to_use(
    whole: tuple[Path, Result],
) -> None:
    out, result = whole
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["verb"]) == (1, "plan")
    record = json.loads((out / "record.json").read_bytes())
    made = document.pop("environment")
    assert record == document
    assert set(made["stage_s"]) == set(STAGES)
    assert [states(record)[name] for name in STAGES] == ["finished"] * len(STAGES)
    page = (out / "README.md").read_text()
    first = page.splitlines()[0]
    assert first == record["answer"]
    assert first.startswith("narrow: set ngscale.table_rows as in configs/ (")
    assert " (of the traffic of 2-gram rows " in first
    assert "Evidence: smoke test (fewer than 3 seeds (1) and " in first
    assert "nothing at full scale was trained. It would change with " in first
    body = page.split("\n---\n")[0]
    assert body.rstrip().splitlines()[-1].startswith("| configs/")
    assert (out / "report.html").is_file()
    assert (out / "figures" / "verdicts.svg").is_file()
    for stage in record["stages"]:
        if stage["directory"] is not None:
            assert f"({stage['directory']}/README.md)" in page
            assert (out / stage["directory"] / "stage.json").is_file()
    verdict = next(one for one in record["verdicts"] if one["candidate"] == OWN)
    assert verdict["sentence"].startswith("Smoke test, concludes nothing (")
    assert [one["baseline"] for one in verdict["comparisons"]] == [
        "equivalent-moe",
        "capacity-1",
        "unigram-tables",
        "base-moe",
    ]
    assert not list(out.rglob("model.safetensors"))


def test_every_config_written_is_read_and_its_commands_run(
    whole: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = whole
    monkeypatch.chdir(out)
    record = json.loads((out / "record.json").read_bytes())
    assert {path.stem for path in (out / "configs").iterdir()} == set(record["configs"])
    for path in sorted((out / "configs").iterdir()):
        design = read_design(path)
        assert bool(design.ngrams) == (path.stem != MOE)
        if design.ngrams:
            audited = CliRunner().invoke(app, ["audit", str(path), "--fail-on", SOUND])
            assert audited.exit_code == 0, audited.stderr
    page = (out / "README.md").read_text().partition("## Files to use")[2]
    commands = [line.split("`")[1].split() for line in page.splitlines() if line.startswith("`ng")]
    assert [command[1] for command in commands] == ["budget", "audit", "ids", "train-small"]
    for command in commands[:-1]:
        result = CliRunner().invoke(app, command[1:])
        assert result.exit_code == 0, result.stderr
    bounded = [*commands[-1][1:], "--dry-run", "--tokens", "1024"]
    assert CliRunner().invoke(app, bounded).exit_code == 0


def test_the_same_command_again_does_nothing_anew_and_gives_the_same_bytes(
    whole: tuple[Path, Result], inputs: tuple[str, str]
) -> None:
    out, first = whole
    before = (out / "record.json").read_bytes()
    again = run(inputs[0], "--corpus", inputs[1], *FEW, "--json", "--out", str(out))
    assert again.exit_code == 0, again.stderr
    assert (out / "record.json").read_bytes() == before
    for name in STAGES:
        assert f"{name}: finished before" in again.stderr
    assert "begins" not in again.stderr
    assert json.loads(again.stdout)["answer"] == json.loads(first.stdout)["answer"]


def test_a_second_candidate_is_trained_beside_the_first(
    whole: tuple[Path, Result], inputs: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "plan"
    shutil.copytree(whole[0], out)
    options = (*FEW[:-1], "2", "--json", "--out", str(out))
    more = run(inputs[0], "--corpus", inputs[1], *options)
    assert more.exit_code == 0, more.stderr
    assert f"{STAGES[-1]}: finished before" in more.stderr
    document = json.loads(more.stdout)
    trained = [one for one in document["verdicts"] if one["comparisons"]]
    assert [one["candidate"] for one in trained] == [OWN, "evidence-best"]
    first, second = ([item["differences"] for item in one["comparisons"]] for one in trained)
    before = json.loads(whole[1].stdout)["verdicts"][0]["comparisons"]
    assert first == [item["differences"] for item in before]
    assert first != second


def test_other_options_redo_what_they_change_and_keep_the_rest(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "plan"
    assert run(inputs[0], "--no-corpus", "--out", str(out)).exit_code == 0
    first = json.loads((out / "record.json").read_bytes())
    other = run(inputs[0], "--no-corpus", "--total", "1.2M", "--out", str(out))
    assert other.exit_code == 0, other.stderr
    assert "1-audit: finished before" in other.stderr
    assert "3-candidates: new inputs; what other ones gave stays in " in other.stderr
    assert len(list((out / "stages" / "1-audit").iterdir())) == 1
    assert len(list((out / "stages" / "3-candidates").iterdir())) == 2
    assert OWN not in json.loads((out / "record.json").read_bytes())["configs"]
    back = run(inputs[0], "--no-corpus", "--out", str(out))
    assert "begins" not in back.stderr
    assert json.loads((out / "record.json").read_bytes()) == first


def test_without_torch_training_is_skipped_and_the_grade_is_capped(
    inputs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run(inputs[0], "--corpus", inputs[1], "--json", "--out", str(tmp_path / "plan"))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert states(document)["2-sizes"] == "finished"
    assert states(document)["4-proxies"] == "finished"
    assert states(document)["6-train-own-share"] == "skipped"
    assert document["decision"]["grade"] == "arithmetic only"
    assert "torch is not installed; run: pip install 'ngscale[torch]'" in result.stderr
    assert any("own-share beats experts" in one for one in document["unknown"])


def test_without_a_corpus_it_is_arithmetic_only(inputs: tuple[str, str], tmp_path: Path) -> None:
    result = run(inputs[0], "--no-corpus", "--json", "--out", str(tmp_path / "plan"))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["decision"]["grade"] == "arithmetic only"
    assert document["sharing"] == []
    assert "no corpus was read" in " ".join(document["unknown"])
    assert "Evidence: arithmetic only (nothing was trained)" in document["answer"]


def test_a_time_that_holds_no_candidate_leaves_the_arithmetic_and_exits_6(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "plan"
    options = ("--corpus", inputs[1], "--hours", "0.001", "--device", "cpu", "--json")
    result = run(inputs[0], *options, "--out", str(out))
    assert result.exit_code == 6, result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: --hours")
    document = json.loads(result.stdout)
    assert states(document)["4-proxies"] == "finished"
    assert states(document)["5-schedule"] == "failed"
    assert states(document)["6-train-own-share"] == "waiting"
    assert "Not finished: 5-schedule: --hours" in (out / "README.md").read_text()
    assert "The same command goes on" in document["answer"]
    assert (out / "configs" / "own-share.json").is_file()


def test_a_plan_killed_in_training_has_left_a_report_that_says_so(
    inputs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(job: object) -> None:
        page = (out / "README.md").read_text()  # as it is while training runs
        assert "Not finished: 6-train-own-share: to do." in page.splitlines()[0]
        assert "Evidence: arithmetic only" in page.splitlines()[0]
        raise KeyboardInterrupt

    from ngscale.train_small import run as train_run

    out = tmp_path / "plan"
    monkeypatch.setattr(train_run, "run_job", interrupted)
    options = ("--corpus", inputs[1], "--tokens", "1024", "--seeds", "1", "--out", str(out))
    result = run(inputs[0], *options)
    assert result.exit_code == 130, result.stderr
    assert result.stderr.strip().splitlines()[-1] == "interrupted"
    page = (out / "README.md").read_text()
    assert "Not finished: 6-train-own-share: interrupted." in page
    assert "Not finished: 6-train-evidence-best: comes after 6-train-own-share." in page
    assert "The same command goes on" in page.splitlines()[0]


def test_a_stage_that_fails_leaves_a_report_and_its_own_exit_code(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("It is a truth universally acknowledged. " * 400)
    out = tmp_path / "plan"
    options = ("--corpus", str(short), *FEW, "--json", "--out", str(out))
    result = run(inputs[0], *options)
    assert result.exit_code == 3, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: the corpus has ")
    document = json.loads(result.stdout)
    assert [states(document)[name] for name in STAGES] == ["finished"] * 5 + ["failed"]
    assert document["decision"]["grade"] == "arithmetic only"
    assert document["missing"][0].startswith("6-train-own-share: the corpus has ")


def test_limits_that_nothing_meets_are_exit_9_with_a_report(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "plan"
    result = run(inputs[0], "--no-corpus", "--hbm", "1K", "--json", "--out", str(out))
    assert result.exit_code == 9, result.stderr
    document = json.loads(result.stdout)
    assert states(document)["3-candidates"] == "failed"
    assert states(document)["4-proxies"] == "waiting"
    assert document["decision"] is None
    assert document["answer"].startswith("narrow: no decision on the share of tables. Set ")
    assert list(document["configs"]) == [OWN]


def test_two_plans_in_one_directory_are_refused_in_one_line(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        result = run(inputs[0], "--no-corpus", "--out", str(tmp_path))
    assert result.exit_code == 6
    assert result.stdout == ""
    assert "another process works there" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_dry_run_prints_stages_and_writes_nothing(
    inputs: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "plan"
    options = ("--dry-run", "--hours", "2", "--device", "cpu", "--json", "--out", str(out))
    result = run(inputs[0], *options)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [stage["name"] for stage in document["stages"]] == [*STAGES[:-1], "6-train-..."]
    assert {stage["state"] for stage in document["stages"]} == {"to do"}
    assert sum(stage["seconds"] for stage in document["stages"]) == pytest.approx(7200)
    assert all(stage["memory_bytes"] > 0 for stage in document["stages"])
    assert not out.exists()


def test_a_dry_run_without_a_corpus_trains_nothing(inputs: tuple[str, str], tmp_path: Path) -> None:
    options = ("--dry-run", "--no-corpus", "--json", "--out", str(tmp_path / "plan"))
    document = json.loads(run(inputs[0], *options).stdout)
    assert states(document)["3-candidates"] == "to do"
    assert states(document)["5-schedule"] == states(document)["6-train-..."] == "skipped"
    assert document["stages"][-1]["why"] == "no corpus is read"


def test_a_dry_run_knows_what_is_finished(
    whole: tuple[Path, Result], inputs: tuple[str, str]
) -> None:
    result = run(
        inputs[0], "--corpus", inputs[1], *FEW, "--dry-run", "--json", "--out", str(whole[0])
    )
    document = json.loads(result.stdout)
    assert states(document)["6-train-own-share"] == "finished"
    assert document["answer"].startswith("About 0 s ")


def test_a_model_without_tables_is_planned_from_the_budgets_candidates(tmp_path: Path) -> None:
    out = tmp_path / "plan"
    options = ("--no-corpus", "--host-memory", "1T", "--json", "--out", str(out))
    result = run("qwen3-30b-a3b", *options)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert states(document)["1-audit"] == "skipped"
    assert OWN not in document["configs"]
    assert document["patch"] is None


def test_a_model_of_which_the_tables_alone_are_published_is_audited(tmp_path: Path) -> None:
    result = run("longcat-tiny-random", "--no-corpus", "--json", "--out", str(tmp_path / "plan"))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert states(document)["1-audit"] == "finished"
    assert states(document)["3-candidates"] == "skipped"
    assert document["decision"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--nope"], 2, "--nope"),
        (["--device", "tpu"], 2, "--device tpu"),
        (["--hours", "1", "--tokens", "5"], 2, "--hours and --tokens"),
        (["--hours", "inf"], 2, "--hours inf"),
        (["--hours", "0"], 2, "--hours"),
        (["--no-corpus", "--tokenizer", "x"], 2, "--no-corpus"),
        (["--total", "many"], 2, "many"),
        (["--hbm", "much"], 2, "much"),
        (["--corpus", "/nonexistent.txt"], 3, "/nonexistent.txt"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(
    inputs: tuple[str, str], tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    out = tmp_path / "plan"
    result = run(inputs[0], *arguments, "--out", str(out))
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert named in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "nope"}'])
def test_a_bad_config_is_one_line_and_exit_3(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    out = tmp_path / "plan"
    result = run(str(path), "--no-corpus", "--out", str(out))
    assert (result.exit_code, result.stdout) == (3, "")
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert not out.exists()
