"""``ngscale ids`` from the outside: rows, differences, vectors, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ngscale import presets
from ngscale.cli import app
from ngscale.presets.policies import implementations

LITE = "longcat-flash-lite"
TOKENS = "11,523,2,7"


@pytest.fixture
def golden(checkout: Path) -> Path:
    return checkout / "tests" / "golden" / "vectors.json"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["ids", *arguments], input=stdin)


def document(*arguments: str, stdin: str | None = None) -> dict[str, Any]:
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_first_line_is_the_answer() -> None:
    result = run(LITE, "--tokens", TOKENS)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == (
        "4 token ids read 48 rows of 12 tables of longcat-flash-lite by the policy of the config."
    )
    assert "4-grams" in result.stdout


def test_rows_are_those_of_the_published_vectors(golden: Path) -> None:
    """Lite's own config among the vectors: 131072, ratio 78, 4, 4, EOS 2."""
    vectors = [
        vector
        for vector in json.loads(golden.read_text())["vectors"]
        if vector["scheme"] in ("longcat/hf", "longcat/no_eos", "longcat/vllm_neg")
        and (vector["config"]["vocab"], vector["config"]["ratio"]) == (131_072, 78)
    ]
    assert len(vectors) >= 3
    for vector in vectors:
        policy = vector["scheme"].rpartition("/")[2]
        tokens = ",".join(map(str, vector["tokens"]))
        found = document(LITE, "--tokens", tokens, "--policy", policy)
        assert found["layers"][0]["ids"] == vector["ids"]


def test_json_has_tables_policy_and_where_every_field_is_from() -> None:
    found = document(LITE, "--tokens", TOKENS, "--policy", "vllm<=0.33.0")
    assert (found["schema_version"], found["verb"]) == (1, "ids")
    (layer,) = found["layers"]
    assert layer["tables"][4] == {"index": 4, "order": 3, "rows": 10_223_625}
    assert layer["ids"][2] == [0] * 12
    policy = found["policy"]
    assert (policy["name"], policy["confidence"]) == ("vllm<=0.33.0", "executed")
    assert policy["fields"]["at_boundary"] == {
        "value": "row_zero",
        "from": "policy vllm<=0.33.0: vLLM 0.26, 0.29 and 0.33.0, longcat_flash_ngram",
    }
    assert policy["fields"]["boundary_tokens"] == {
        "value": [2],
        "from": "eos_token_id of the config",
    }
    assert all(entry["from"] for entry in policy["fields"].values())
    assert policy["unverified"]


def test_ids_given_on_the_command_line_are_said_to_be() -> None:
    options = ("--eos", "7", "--pad-id", "3", "--ignored", "0:4,36:55")
    fields = document(LITE, "--tokens", TOKENS, "--policy", "tokenspeed-exclude", *options)[
        "policy"
    ]["fields"]
    assert fields["boundary_tokens"] == {"value": [7], "from": "--eos"}
    assert fields["ignored_tokens"] == {"value": [[0, 4], [36, 55]], "from": "--ignored"}
    fields = document(LITE, "--tokens", TOKENS, "--policy", "paddlefleet", *options)["policy"][
        "fields"
    ]
    assert fields["fill"] == {"value": 3, "from": "--pad-id"}


def test_a_bypassed_look_up_is_null_and_minus_one(tmp_path: Path) -> None:
    options = ("--policy", "tokenspeed-exclude", "--ignored", "500:600")
    npy = tmp_path / "rows.npy"
    found = document(LITE, "--tokens", TOKENS, *options, "--npy", str(npy))
    assert found["layers"][0]["ids"][1] == [None] * 12
    rows = np.load(npy)
    assert (rows.dtype, rows.shape) == (np.dtype(np.int64), (4, 12))
    assert (rows[1] == -1).all()
    assert rows[0].tolist() == found["layers"][0]["ids"][0]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]
    assert "bypassed" in run(LITE, "--tokens", TOKENS, *options).stdout


def test_rows_that_read_as_the_zero_vector_are_marked() -> None:
    found = document("longcat-next", "--tokens", "5,131080,7")
    assert found["layers"][0]["reads_as_zero"] == [[1, table] for table in range(12)]
    assert found["layers"][0]["word_alone"] == [1]
    assert (
        "tables 0-3 read as the zero vector" in run("longcat-next", "--tokens", "5,131080,7").stdout
    )


def test_a_difference_starts_with_counts_and_names_position_tables_and_reason() -> None:
    found = document(LITE, "--tokens", "11,523,2,7,9", "--diff", "mlx-lm")
    assert found["answer"] == (
        "2 of 5 positions (20 of 60 look-ups) of longcat-flash-lite differ between the config and "
        "mlx-lm: EOS (id 2) at position 2: mlx-lm sees past it."
    )
    (layer,) = found["difference"]["layers"]
    assert layer["positions"] == [
        {
            "position": position,
            "token": token,
            "tables": list(range(first, 12)),
            "why": ["EOS (id 2) at position 2: mlx-lm sees past it"],
        }
        for position, token, first in ((3, 7, 0), (4, 9, 4))
    ]
    assert layer["ids"][3] != found["layers"][0]["ids"][3]
    shown = run(LITE, "--tokens", "11,523,2,7,9", "--diff", "mlx-lm").stdout
    assert "EOS (id 2) at position 2: mlx-lm sees past it" in shown


def test_no_difference_is_said_and_a_factor_that_differs_too() -> None:
    same = document(LITE, "--tokens", "5,6,7", "--policy", "hf", "--diff", "mlx-lm")
    assert same["answer"] == (
        "No position differs on these tokens between hf and mlx-lm in longcat-flash-lite."
    )
    scaled = document(LITE, "--tokens", "5,6,7", "--policy", "hf", "--diff", "mlx-vlm-sparse")
    assert scaled["answer"].endswith(
        "; the word embedding's factor differs: mean in hf, sum_only in mlx-vlm-sparse."
    )


def test_every_layer_with_tables_is_listed_or_one_is_chosen(tmp_path: Path) -> None:
    both = document("deepseek-v4.1-flash", "--tokens", TOKENS)
    assert [layer["layers"] for layer in both["layers"]] == [[1], [14]]
    second = document("deepseek-v4.1-flash", "--tokens", TOKENS, "--layer", "14")
    assert second["layers"] == both["layers"][1:]
    npy = str(tmp_path / "rows.npy")
    refused = run("deepseek-v4.1-flash", "--tokens", TOKENS, "--npy", npy)
    assert refused.exit_code == 2
    assert "has tables in layers 1, 14; give --layer" in refused.stderr
    missing = run("deepseek-v4.1-flash", "--tokens", TOKENS, "--layer", "2")
    assert missing.exit_code == 2
    assert "--layer 2: reads no rows; layers that do: 1, 14" in missing.stderr


def test_dead_positions_hide_what_is_before_them() -> None:
    """HASHING 5.1: an image predecessor blocks itself and everything older."""
    plain = document("deepseek-v4.1-flash", "--tokens", TOKENS)
    image = document("deepseek-v4.1-flash", "--tokens", TOKENS, "--dead", "1")
    alone = document("deepseek-v4.1-flash", "--tokens", "2,7")
    assert image["layers"][0]["ids"][0] == plain["layers"][0]["ids"][0]
    assert image["layers"][0]["ids"][2:] == alone["layers"][0]["ids"]


def test_segments_separate_documents_where_the_policy_has_them() -> None:
    options = ("--policy", "lingua-stem", "--pad-id", "3")
    packed = document(LITE, "--tokens", "5,6,7,8", *options, "--segments", "0,0,1,1")
    second = document(LITE, "--tokens", "7,8", *options)
    assert packed["layers"][0]["ids"][2:] == second["layers"][0]["ids"]
    refused = run(LITE, "--tokens", "5,6", "--segments", "0,1")
    assert refused.exit_code == 2
    assert "--segments: no policy asked for separates documents" in refused.stderr


def test_stdin_gives_ids_or_text() -> None:
    listed = document(LITE, "--stdin", stdin="11 523\n2,7\n")
    assert listed["layers"] == document(LITE, "--tokens", TOKENS)["layers"]
    text = ("--tokenizer", "bpe-4096")
    read = document(LITE, "--stdin", *text, stdin="It is a truth")
    assert read["layers"] == document(LITE, "--text", "It is a truth", *text)["layers"]
    assert read["inputs"]["tokens"]


def test_engram_refuses_a_tokenizer_with_other_compressed_ids() -> None:
    result = run("engram-demo", "--text", "It is", "--tokenizer", "bpe-4096")
    assert result.exit_code == 2
    assert "compressed ids, the model 99092" in result.stderr


def test_the_published_vectors_all_pass(golden: Path) -> None:
    found = document("--check", str(golden))
    assert (found["num_vectors"], found["num_differ"], found["differences"]) == (85, 0, [])
    assert sum(row["vectors"] for row in found["schemes"]) == 85
    assert len(found["schemes"]) == 16
    shown = run("--check", str(golden))
    assert shown.exit_code == 0
    assert shown.stdout.startswith("All 85 vectors of vectors.json pass: ")
    assert "nanbeige/force_prime" in shown.stdout


def test_a_wrong_vector_is_named_with_its_first_difference_and_exit_7(
    golden: Path, tmp_path: Path
) -> None:
    content = json.loads(golden.read_text())
    wrong = next(i for i, v in enumerate(content["vectors"]) if len(v["tokens"]) > 5)
    expected = content["vectors"][wrong]["ids"][4][1]
    content["vectors"][wrong]["ids"][4][1] = expected + 1
    content["vectors"][wrong]["ids"][5][0] += 1
    path = tmp_path / "port.json"
    path.write_text(json.dumps(content))
    result = run("--check", str(path))
    assert result.exit_code == 7
    scheme = content["vectors"][wrong]["scheme"]
    assert result.stdout.splitlines()[0] == (
        f"1 of 85 vectors of port.json differ; vectors[{wrong}] ({scheme}): ids at position 4, "
        f"table 1: the file says {expected + 1}, computed {expected}."
    )
    assert result.stderr == f"error: {path}: 1 of 85 differ\n"
    as_json = run("--check", str(path), "--json", "--out", str(tmp_path / "out"))
    assert as_json.exit_code == 7
    (difference,) = json.loads(as_json.stdout)["differences"]
    assert (difference["position"], difference["table"]) == (4, 1)
    assert (tmp_path / "out" / "data" / "differences.csv").is_file()


def test_sizes_and_masks_of_a_file_are_checked_too(golden: Path, tmp_path: Path) -> None:
    content = json.loads(golden.read_text())
    vector = next(v for v in content["vectors"] if "lookup_mask" in v)
    vector["lookup_mask"][0][0] ^= True
    other = next(v for v in content["vectors"] if v["scheme"] == "qwen4_ple")
    other["table_sizes"] = [size + 2 for size in other["table_sizes"]]
    path = tmp_path / "port.json"
    path.write_text(json.dumps({"vectors": [vector, other]}))
    result = run("--check", str(path), "--json")
    assert result.exit_code == 7
    masks, sizes = json.loads(result.stdout)["differences"]
    assert masks["what"] == "lookup_mask"
    assert sizes["what"].startswith("table_sizes are [")


@pytest.mark.parametrize("target", presets.with_tables())
def test_an_exported_file_passes_its_check(target: str, tmp_path: Path) -> None:
    exported = run(target, "--export", "3", "--seed", "5")
    assert exported.exit_code == 0, exported.stderr
    assert exported.stdout == run(target, "--export", "3", "--seed", "5").stdout
    assert exported.stdout != run(target, "--export", "3", "--seed", "6").stdout
    path = tmp_path / "vectors.json"
    path.write_text(exported.stdout)
    assert run("--check", str(path)).exit_code == 0
    content = json.loads(exported.stdout)
    content["vectors"][-1]["ids"][-1][0] = 1 - min(1, content["vectors"][-1]["ids"][-1][0])
    path.write_text(json.dumps(content))
    assert run("--check", str(path)).exit_code == 7


def test_every_policy_of_longcat_can_be_exported(tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    options = ("--ignored", "131000:131010", "--pad-id", "3")
    for name, entry in implementations().items():
        if entry.family == "longcat":
            exported = run(LITE, "--export", "1", "--policy", name, *options)
            assert exported.exit_code == 0, exported.stderr
            path.write_text(exported.stdout)
            assert run("--check", str(path)).exit_code == 0


def test_out_holds_the_whole_report(tmp_path: Path) -> None:
    arguments = (LITE, "--tokens", TOKENS, "--diff", "sglang<=0.5.14", "--out", str(tmp_path))
    assert run(*arguments).exit_code == 0
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("1 of 4 positions (12 of 48 look-ups) of longcat-flash-lite differ")
    assert "Not verified: 0.5.15 was not inspected" in page
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "reasons.csv",
        "positions.csv",
        "rows-2-grams.csv",
        "rows-3-grams.csv",
        "rows-4-grams.csv",
        "policy-1.csv",
        "policy-2.csv",
    }
    record = (tmp_path / "record.json").read_bytes()
    assert run(*arguments).exit_code == 0
    assert (tmp_path / "record.json").read_bytes() == record


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([LITE], "give one of --tokens, --text, --stdin, --check, --export; got none"),
        ([LITE, "--tokens", "1", "--export", "3"], "got --tokens and --export"),
        (["--tokens", "1"], "--tokens needs a TARGET"),
        ([LITE, "--tokens", "1,x"], "--tokens: 'x' is not a whole number"),
        ([LITE, "--tokens", "1.5"], "--tokens: '1.5' is not a whole number"),
        ([LITE, "--tokens", "1,-2"], "--tokens: -2 is below 0"),
        ([LITE, "--tokens", "nan"], "'nan' is not a whole number"),
        ([LITE, "--tokens", "9" * 5000], "is not a whole number"),
        ([LITE, "--tokens", "\u0663"], "is not a whole number"),
        ([LITE, "--tokens", " , "], "--tokens: holds no token"),
        ([LITE, "--tokens", "131072"], "token 131072 at position 0: longcat-flash-lite has ids 0"),
        (["longcat-next", "--tokens", "282624"], "token 282624 at position 0"),
        (["engram-demo", "--tokens", "99092"], "has compressed ids 0..99091"),
        ([LITE, "--text", "x"], "--text needs the model's --tokenizer"),
        ([LITE, "--text", "", "--tokenizer", "bpe-4096"], "--text: holds no token"),
        ([LITE, "--tokens", "1", "--tokenizer", "bpe-4096"], "--tokenizer goes with --text"),
        ([LITE, "--tokens", "1", "--policy", "nope"], "policy nope: not known; known: "),
        ([LITE, "--tokens", "1", "--diff", "sglang"], "policy sglang: differs by version"),
        ([LITE, "--tokens", "1", "--diff", "exclude"], "policy exclude: needs ignored ids"),
        ([LITE, "--tokens", "1", "--diff", "paddlefleet"], "give --pad-id ID"),
        ([LITE, "--tokens", "1", "--eos", "3"], "go with --policy or --diff"),
        ([LITE, "--tokens", "1", "--policy", "hf", "--eos", "131072"], "token 131072 is not below"),
        (["qwen3.8-flash-next", "--tokens", "1", "--diff", "hf"], "is for longcat, this model is"),
        (["blt", "--tokens", "1", "--diff", "hf"], "one implementation of this model's hash"),
        ([LITE, "--tokens", "1", "--policy", "invalid", "--ignored", "4"], "--ignored 4: takes"),
        ([LITE, "--tokens", "1", "--policy", "invalid", "--ignored", "4:4"], "4:4 is empty"),
        ([LITE, "--tokens", "1,2", "--segments", "0"], "--segments: 2 tokens need as many numbers"),
        ([LITE, "--tokens", "1,2", "--dead", "2"], "--dead 2: there are positions 0..1"),
        ([LITE, "--tokens", "1,2", "--dead", "1"], "--dead: no policy asked for"),
        ([LITE, "--tokens", "1", "--layer", "3"], "--layer 3: reads no rows; layers that do: none"),
        ([LITE, "--check", "x.json"], "--check: takes no TARGET"),
        (["--check", "x.json", "--policy", "hf"], "--check: takes no --policy"),
        ([LITE, "--export", "2", "--diff", "hf"], "--export: takes no --diff"),
        ([LITE, "--export", "0"], "--export"),
        ([LITE, "--export", "2", "--seed", "-1"], "--seed"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_2(arguments: list[str], problem: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_names_complete() -> None:
    from ngscale.commands.ids import _complete, _complete_policy

    assert _complete("deepseek") == ["deepseek-v4.1-flash"]
    assert "blt" in _complete("")
    assert "longcat-flash-chat" not in _complete("longcat")
    assert _complete_policy("sglang<") == ["sglang<=0.5.14"]


def test_a_short_answer_does_not_load_numba() -> None:
    script = (
        "import sys\n"
        "from ngscale.cli import app\n"
        f"app(['ids', '{LITE}', '--tokens', '{TOKENS}'], standalone_mode=False)\n"
        "names = ('numba', 'torch', 'scipy', 'datasets', 'matplotlib', 'transformers')\n"
        "print([name for name in names if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
