"""``ngscale budget`` from the outside: its answers, its refusals, what it loads and writes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ngscale import presets
from ngscale.cli import app
from tests.safetensors_files import write_raw, write_tensors

LITE_CONFIG: dict[str, Any] = json.loads(presets.resolve("longcat-flash-lite").read_text())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["budget", *arguments])


def write(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "config.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_first_line_is_the_answer() -> None:
    result = run("longcat-flash-lite")
    assert result.exit_code == 0
    answer = " ".join(result.stdout.split("\n\n")[0].split())
    assert answer == (
        "longcat-flash-lite has 68.562B parameters, 31.407B (45.81%) of them in 12 n-gram tables; "
        "2.930B-4.515B are active; the parameter-equivalent MoE has 494 experts per layer instead "
        "of 256."
    )


@pytest.mark.parametrize("name", presets.names())
def test_json_is_one_document_with_a_schema_version(name: str) -> None:
    result = run(name, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["verb"]) == (1, "budget")
    assert document["inputs"]["target"] == name
    assert len(document["inputs"]["config_sha256"]) == 64
    assert sum(document["parameters"]["groups"].values()) == document["parameters"]["total"]


def test_a_file_and_its_directory_are_the_same_target(tmp_path: Path) -> None:
    path = write(tmp_path / "wide", json.dumps(LITE_CONFIG))
    by_file, by_directory = (
        json.loads(run(target, "--json").stdout) for target in (str(path), str(path.parent))
    )
    del by_file["environment"], by_directory["environment"]
    assert by_file == by_directory
    assert by_file["inputs"]["target"] == "wide"


def test_a_record_does_not_know_where_its_config_was(tmp_path: Path) -> None:
    records = []
    for place in ("here", "there"):
        path = write(tmp_path / place, json.dumps(LITE_CONFIG)).rename(tmp_path / place / "c.json")
        out = tmp_path / place / "out"
        assert run(str(path), "--out", str(out)).exit_code == 0
        records.append(
            {
                name: (out / name).read_bytes()
                for name in ("record.json", "data/groups.csv", "figures/allocation.svg")
            }
        )
    assert records[0] == records[1]
    assert str(tmp_path).encode() not in records[0]["record.json"]


def test_out_holds_the_whole_report(tmp_path: Path) -> None:
    result = run("longcat-flash-lite", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert (tmp_path / "README.md").read_text().startswith("longcat-flash-lite has 68.562B")
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["parameters"]["total"] == 68_562_465_024
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "groups.csv",
        "active.csv",
        "trade.csv",
        "tables.csv",
        "rows.csv",
        "memory.csv",
        "flops.csv",
        "placement.csv",
        "tiers.csv",
        "anchors.csv",
        "arithmetic.csv",
        "warnings.csv",
        "rules.csv",
        "laws.csv",
        "loss_differences.csv",
        "curve_anchors.csv",
    }
    page = (tmp_path / "report.html").read_text()
    assert "<h1>Parameter budget of longcat-flash-lite</h1>" in page


def test_dtype_changes_the_bytes() -> None:
    documents = [
        json.loads(run("longcat-flash-lite", "--json", "--dtype", dtype).stdout)
        for dtype in ("fp8", "bf16", "fp32")
    ]
    sizes = [document["memory"]["weight_bytes"] for document in documents]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_an_unknown_dtype_is_a_usage_error() -> None:
    result = run("longcat-flash-lite", "--dtype", "int4")
    assert result.exit_code == 2
    assert "'int4' is not one of 'bf16', 'fp32', 'fp8'" in result.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("not json", "is not JSON"),
        ('{"a": 1, "a": 2}', "a: appears twice"),
        ('{"hidden_size": NaN}', "NaN is not a JSON number"),
        ('{"model_type": "llama9"}', 'model_type: "llama9"'),
        (
            json.dumps(LITE_CONFIG | {"moe_topk": "12"}),
            'moe_topk: must be a whole number, got "12"',
        ),
        (
            json.dumps(LITE_CONFIG | {"num_layers": -14}),
            "num_layers: must be 1..10000, got -14",
        ),
        (
            json.dumps({key: LITE_CONFIG[key] for key in LITE_CONFIG if key != "v_head_dim"}),
            "v_head_dim: is missing",
        ),
    ],
)
def test_a_bad_config_is_one_line_and_exit_3(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, text)
    result = run(str(path))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {path}: ")
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_directory_without_a_config_is_exit_3(tmp_path: Path) -> None:
    result = run(str(tmp_path))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"error: {tmp_path}: the directory holds no config.json\n"


def test_context_batch_and_ranks_are_options() -> None:
    options = "--context 1000 --batch 4 --kv-dtype fp8 --tp 2 --dp 2 --ep 4 --table-shards 4"
    result = run("longcat-flash-lite", "--json", *options.split())
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["memory"]["kv_cache"]["bytes"] == 4 * 1000 * 28 * 576
    (stage,) = document["parallel"]["stages"]
    assert stage["table_rows"] == 122_683_536 // 4
    assert stage["cache_bytes"] == 2 * 1000 * 28 * 576


def test_explain_shows_every_product() -> None:
    result = run("longcat-flash-lite", "--explain")
    assert result.exit_code == 0
    assert (
        "KV cache of one token = layers x latent and rotary columns x bytes = 28 x 576 x 2 = "
        "32,256 B" in result.stdout
    )
    assert "28 x 576 x 2" not in run("longcat-flash-lite").stdout


def test_ranks_that_do_not_divide_are_a_usage_error() -> None:
    result = run("longcat-flash-lite", "--tp", "5")
    assert result.exit_code == 2
    assert result.stderr == "error: --tp 5: does not divide num_attention_heads 32\n"


def test_neither_target_nor_checkpoint_is_a_usage_error(tmp_path: Path) -> None:
    assert run().exit_code == 2
    file = write_tensors(tmp_path / "x.safetensors", {"lm_head.weight": ("BF16", [4, 4])})
    result = run("--checkpoint", str(file))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_checkpoint_is_a_target_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "lite", json.dumps(LITE_CONFIG))
    write_tensors(tmp_path / "lite" / "model.safetensors", {"lm_head.weight": ("BF16", [4, 4])})
    result = run("--checkpoint", str(tmp_path / "lite"), "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["inputs"]["target"] == "lite"
    assert document["checkpoint"]["total"] == 16
    differences = {d["group"]: d["difference"] for d in document["checkpoint"]["differences"]}
    assert differences["lm_head"] == 16 - 131072 * 3072
    assert differences["experts"] == -33_822_867_456
    assert "differs from its config.json" in document["answer"]
    named = run("longcat-flash-lite", "--checkpoint", str(tmp_path / "lite"), "--json")
    assert json.loads(named.stdout)["checkpoint"] == document["checkpoint"]


def test_hostile_checkpoints_are_one_line(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    write(directory, json.dumps(LITE_CONFIG))
    weights = directory / "model.safetensors"
    write_raw(weights, b"{}", 0, length=2**63)
    malformed = run("--checkpoint", str(directory))
    weights.unlink()
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    escaping = run("--checkpoint", str(directory))
    weights.unlink()
    (directory / "config.json").rename(tmp_path / "config.json")
    (directory / "config.json").symlink_to(tmp_path / "config.json")
    config_escaping = run("--checkpoint", str(directory))
    for result, code in ((malformed, 3), (escaping, 4), (config_escaping, 4)):
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith(f"error: {directory}")
        assert result.stderr.count("\n") == 1


def test_preset_names_complete() -> None:
    from ngscale.commands.budget import _complete

    assert _complete("longcat-flash-l") == ["longcat-flash-lite", "longcat-flash-lite-sparse"]


def test_a_missing_target_is_exit_3_in_a_real_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ngscale", "budget", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'none'}: no such file")
    assert done.stderr.count("\n") == 1


HEAVY = ("numpy", "numba", "torch", "scipy", "datasets", "matplotlib", "transformers")


def test_a_real_process_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from ngscale.cli import app\n"
        "app(['budget', 'longcat-flash-lite'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("longcat-flash-lite has 68.562B parameters")
    assert done.stderr == "[]\n"


def test_a_total_gives_candidates_with_a_config_each(tmp_path: Path) -> None:
    out = tmp_path / "report"
    arguments = ("--total", "98.5B", "--host-memory", "1T", "--batch", "64")
    result = run("longcat-flash-lite", *arguments, "--json", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    names = [candidate["name"] for candidate in document["candidates"]]
    assert names == ["parameter-equivalent-moe", "evidence-best", "conservative", "memory-bound"]
    assert document["answer"].startswith("At 98.500B parameters, 4.5")
    assert document["frontier"]
    for candidate in document["candidates"]:
        path = out / "configs" / f"{candidate['name']}.json"
        again = json.loads(run(str(path), "--json").stdout)
        assert again["parameters"]["total"] == candidate["total_parameters"]
        if candidate["max_order"] is not None:
            found = CliRunner().invoke(app, ["audit", str(path), "--fail-on", "error", "--json"])
            assert found.exit_code == 0, found.stdout
    assert {entry["kind"] for entry in document["evidence"]} == {"law", "rule"}


def test_a_proxy_comes_with_its_moe_and_its_placebo(tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = run("longcat-flash-lite", "--proxy", "2M", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    totals = {}
    for path in (out / "configs").iterdir():
        again = json.loads(run(str(path), "--json").stdout)
        totals[path.stem] = again["parameters"]
    design, moe = totals["design"], totals["parameter-equivalent-moe"]
    assert abs(moe["total"] / design["total"] - 1) < 0.005
    assert moe["ngram_tables"] == 0
    # 12 tables of one row, 160 // 12 columns
    assert totals["capacity-1"]["ngram_tables"] == 12 * 13


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["longcat-flash-lite", "--total", "1B"], 9, "--total 1.000B: this model needs 4.898B"),
        (["longcat-flash-lite", "--total", "-1"], 2, "-1: is not a count"),
        (["longcat-flash-lite", "--active", "100B"], 9, "experts cannot make up the difference"),
        (["longcat-flash-lite", "--total", "70B", "--evidence", "x"], 2, "x: is no source"),
        (["longcat-flash-lite", "--hbm", "1G"], 9, "nothing fits: the smallest design needs"),
        (["llama-3.1-8b", "--total", "70B"], 3, "llama has no experts"),
        (["qwen3-8b", "--proxy", "2M"], 3, "the design has no n-gram tables"),
        (["longcat-flash-lite", "--proxy", "10K"], 9, "ask for more"),
        (["longcat-flash-lite", "--records", "/nowhere"], 3, "/nowhere: is not a directory"),
        (["longcat-flash-lite", "--total", "70B", "--training-tokens", "abc"], 2, "abc: is not"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
