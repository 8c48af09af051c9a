import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.cli import app
from ngscale.design import Design
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.train_small.config import DEFAULT_DESIGN
from tests.probe.models import edit_config, save_random, save_text, save_tokenizer
from tests.probe.table_checkpoints import random_tables, save_longcat


def invoke(*argv: object) -> Any:
    return CliRunner().invoke(app, ["probe", *map(str, argv)])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama beside its corpus; not to be changed."""
    return save_random("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return save_random("llama", tmp_path / "llama")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text"))


def document(shared: Path, text: Path, *argv: object) -> dict[str, Any]:
    result = invoke(shared, "--corpus", text, "--tokens", 50, "--json", *argv)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_document_has_every_key(shared: Path, text: Path) -> None:
    found = document(shared, text, "--windows", 3)
    assert (found["schema_version"], found["verb"]) == (1, "probe")
    assert [layer["name"] for layer in found["layers"]] == [
        f"L{layer}_{kind}_out" for layer in range(3) for kind in ("attn", "mlp")
    ]
    for layer in found["layers"]:
        for key in ("write", "stream", "ratio", "ratio_to_layer_input"):
            assert set(layer[key]) == {"median", "p5", "p95", "p99"}
            assert layer[key]["p5"] <= layer[key]["median"] <= layer[key]["p95"]
            assert layer[key]["p95"] <= layer[key]["p99"]
        assert set(layer["first_position"]) == {"write", "stream", "ratio"}
        assert len(layer["ratio_median_by_window"]) == 3
        assert -1 <= layer["cosine"]["median"] <= 1
        assert layer["ratio_median_by_text"] == [layer["ratio"]["median"]]
        low, high = layer["ratio_interval"]
        assert low < np.mean(layer["ratio_median_by_window"]) < high
    assert [share["after"] for share in found["embedding_share"]] == ["L0", "L1", "L2"]
    assert found["closure"] == {
        "max_relative_error": 0.0,
        "where": "the input of layer 0",
        "checks": 7,
        "tolerance": 1e-05,
    }
    advice = found["advice"]
    assert [one["amplification"] for one in advice["amplifications"]] == [
        *("none", "scalar", "sqrt_d", "layernorm")
    ]
    assert (advice["checked"], advice["num_loss_tokens"]) == (True, 3 * 49)
    assert advice["amplifications"][0]["loss_change_nats"] == 0.0
    for one in advice["amplifications"]:
        assert one["checked_share"] == pytest.approx(one["predicted_share"], abs=0.01)
        low, high = one["loss_change_interval_nats"]
        assert low <= one["loss_change_nats"] <= high
    assert found["num_tokens_counted"] == 3 * 49
    inputs = found["inputs"]
    assert inputs["window"] == {
        "tokens": 50,
        "count": 3,
        "draws": 1,
        "prefix_ids": [],
        "places": [{"text": 0, "draw": 0, "start": start} for start in (0, 300, 600)],
    }
    assert set(inputs["model"]["sha256"]) == {"config.json", "model.safetensors"}
    assert inputs["texts"][0]["num_tokens"] == 900


def test_unscaled_prediction_is_the_measured_share(shared: Path, text: Path) -> None:
    found = document(shared, text)
    measured = found["embedding_share"][0]["share"]["median"]
    assert found["advice"]["amplifications"][0]["predicted_share"] == pytest.approx(
        measured, rel=1e-5
    )


def test_attention_ratio_is_also_its_ratio_to_the_layers_input(shared: Path, text: Path) -> None:
    for layer in document(shared, text)["layers"][::2]:
        assert layer["ratio_to_layer_input"] == layer["ratio"]


def test_the_first_position_is_left_out(shared: Path, text: Path) -> None:
    """Of two tokens one is left, so every percentile is that one's."""
    found = document(shared, text, "--tokens", 2)
    ratio = found["layers"][0]["ratio"]
    assert ratio["p5"] == ratio["p99"] == ratio["median"]
    assert found["layers"][0]["first_position"]["ratio"] != ratio["median"]


def test_the_answer_comes_first_and_names_the_numbers(shared: Path, text: Path) -> None:
    result = invoke(shared, "--corpus", text, "--tokens", 50)
    ratios = [layer["ratio"]["median"] for layer in document(shared, text)["layers"][:2]]
    answer = " ".join(result.stdout.split())
    assert answer.startswith(
        f"{shared.name}: the first attention writes {ratios[0]:.2f}x and the first MLP "
        f"{ratios[1]:.2f}x the stream it is added to (median over 49 tokens); after layer 0 "
    )
    assert "Advice: no amplification" in answer


def test_drowned_embeddings_are_told_with_the_scope_of_the_evidence(
    llama: Path, text: Path
) -> None:
    path = llama / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.down_proj.weight"] *= 1e5
    save_file(tensors, path, metadata={"format": "pt"})
    advice = document(llama, text)["advice"]
    assert (advice["drowned"], advice["evidence_applies"]) == (True, False)
    assert advice["where"] == "L0_mlp_out"
    assert advice["choice"] == "scalar"  # sqrt(32) and LayerNorm are far too little
    answer = " ".join(invoke(llama, "--corpus", text, "--tokens", 50).stdout.split())
    assert "Advice for the next training run: " in answer
    assert "near 10x, which this is not" in answer


def test_the_report_holds_answer_tables_and_figure(
    shared: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = document(shared, text, "--out", out)
    assert (out / "README.md").read_text().startswith(found["answer"])
    record = json.loads((out / "record.json").read_text())
    assert record == {key: value for key, value in found.items() if key != "environment"}
    with (out / "data" / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [layer["name"] for layer in found["layers"]]
    assert float(rows[1]["ratio_p99"]) == found["layers"][1]["ratio"]["p99"]
    assert (out / "data" / "embedding_share.csv").is_file()
    assert (out / "figures" / "norms.svg").is_file()
    assert (out / "figures" / "norms.png").is_file()


def test_equal_inputs_give_equal_bytes(shared: Path, text: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        document(shared, text, "--out", tmp_path / name)
    for path in ("record.json", "data/layers.csv", "figures/norms.svg", "figures/norms.png"):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_our_own_checkpoint_finds_the_embedded_tokenizer(tmp_path: Path, text: Path) -> None:
    model = decoder_model(
        DecoderConfig(
            vocab_size=4096,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            moe_intermediate_size=8,
            num_experts=2,
            num_experts_per_tok=1,
        )
    )
    design = Design(model=model)
    decoder = Decoder(design)
    decoder.initialise(seed=1)
    save_decoder(decoder, design, tmp_path)
    result = invoke(tmp_path, "--corpus", text, "--tokens", 40, "--json")
    assert result.exit_code == 0, result.stderr
    inputs = json.loads(result.stdout)["inputs"]
    assert inputs["tokenizer"]["name"] == "bpe-4096"
    assert inputs["model"]["model_type"] == "ngscale_moe"


def test_a_template_with_bos_puts_it_before_every_window(llama: Path, text: Path) -> None:
    save_tokenizer(llama, bos=True)
    window = document(llama, text, "--windows", 2)["inputs"]["window"]
    assert window["prefix_ids"] == [1]


def check(result: Any, code: int, *parts: str) -> None:
    """One line on stderr that starts with ``error:``, nothing on stdout."""
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    for part in parts:
        assert part in last


def test_a_closure_failure_is_exit_9_without_norms(tmp_path: Path, text: Path) -> None:
    directory = save_random("granite", tmp_path)
    result = invoke(directory, "--corpus", text, "--tokens", 50, "--out", tmp_path / "out")
    check(result, 9, "closure fails at what L0_mlp_out reads", "tolerance 1e-05")
    assert not (tmp_path / "out").exists()


def test_bad_directories_are_exit_3(shared: Path, text: Path, tmp_path: Path) -> None:
    check(invoke(tmp_path / "none"), 3, "none: no such directory")
    check(invoke(tmp_path), 3, "config.json: cannot be read")
    (tmp_path / "config.json").write_text("[]")
    check(invoke(tmp_path), 3, "not a config.json")
    (tmp_path / "config.json").write_text('{"vocab_size": 4}')
    check(invoke(tmp_path), 3, "model_type", "not a model's config")
    check(invoke(shared / "config.json"), 3, "no such directory; probe takes")


def test_unsafe_checkpoints_are_exit_4(llama: Path) -> None:
    edit_config(llama, auto_map={"AutoConfig": "x.Y"})
    check(invoke(llama), 4, "auto_map")


def test_a_truncated_checkpoint_is_exit_3(llama: Path) -> None:
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    check(invoke(llama), 3, "the file is truncated")


def test_weights_that_are_not_finite_are_exit_3(llama: Path) -> None:
    path = llama / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][3] = float("inf")
    save_file(tensors, path, metadata={"format": "pt"})
    check(invoke(llama), 3, "model.norm.weight: [3]: is inf, must be a finite float32")


def test_text_and_tokenizer_that_do_not_fit_are_told(
    shared: Path, llama: Path, text: Path, tmp_path: Path
) -> None:
    check(invoke(shared, "--corpus", text, "--tokens", 128, "--windows", 8), 3, "too short")
    check(invoke(shared, "--corpus", text), 2, "max_position_embeddings 128")
    check(
        invoke(shared, "--tokenizer", "bpe-4096", "--tokens", 9), 3, "ids up to 4095", "ends at 96"
    )
    (llama / "tokenizer.json").unlink()
    check(invoke(llama, "--corpus", text, "--tokens", 9), 3, "no tokenizer.json; --tokenizer")
    ids = tmp_path / "ids.bin"
    ids.write_bytes(np.zeros(99, dtype="<u2").tobytes())
    check(invoke(shared, "--corpus", ids, "--tokens", 9), 2, "not a .bin of token ids")


def test_an_impossible_option_is_exit_2(shared: Path, text: Path) -> None:
    assert invoke(shared, "--tokens", 1).exit_code == 2
    assert invoke(shared, "--windows", 0).exit_code == 2
    check(invoke(shared, "--device", "zorg"), 2, "--device zorg")


@pytest.mark.parametrize(("package", "extra"), [("torch", "torch"), ("transformers", "hf")])
def test_a_missing_extra_is_exit_8_with_the_pip_command(
    package: str, extra: str, shared: Path
) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from ngscale.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "probe", str(shared)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (8, "")
    expected = f"error: {package} is not installed; run: pip install 'ngscale[{extra}]'"
    assert done.stderr.splitlines()[-1] == expected


def test_the_real_process_keeps_stdout_for_the_document(shared: Path, text: Path) -> None:
    """And transformers' bars and reports off stderr, which holds the story alone."""
    argv = ["probe", str(shared), "--corpus", str(text), "--tokens", "50", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "ngscale", *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["verb"] == "probe"
    assert done.stderr.splitlines() == [f"loading {shared}", "windows (4)"]


def test_bad_records_are_refused_mended_and_counted(
    shared: Path, text: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(
        next(iter([text] if text.is_file() else text.iterdir())).read_bytes() + b"\xff"
    )
    refused = invoke(shared, "--corpus", broken, "--tokens", 50)
    assert refused.exit_code == 3
    assert "--on-bad-record" in refused.stderr
    found = document(shared, broken, "--on-bad-record", "replace")
    assert found["inputs"]["texts"][0]["bad_records"] == {"skipped": 0, "replaced": 1}


def test_the_text_is_tokenised_once(
    shared: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSCALE_CACHE", str(tmp_path))
    first = document(shared, text)
    (entry,) = (tmp_path / "tokens").iterdir()
    made = entry.stat().st_ctime_ns
    assert document(shared, text)["inputs"] == first["inputs"]
    assert [entry.stat().st_ctime_ns] == [made]


def test_another_checkpoint_is_read_with_the_same_tokens(
    shared: Path, llama: Path, text: Path, tmp_path: Path
) -> None:
    path = llama / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.down_proj.weight"] *= 10
    save_file(tensors, path, metadata={"format": "pt"})
    alone, there = document(shared, text), document(llama, text)
    out = tmp_path / "out"
    found = document(shared, text, "--against", llama, "--out", out)
    assert found["layers"] == alone["layers"]
    for here, layer, other in zip(
        found["against"]["layers"], alone["layers"], there["layers"], strict=True
    ):
        assert (here["ratio"], here["ratio_against"]) == (
            layer["ratio"]["median"],
            other["ratio"]["median"],
        )
    mlp = found["against"]["layers"][1]
    assert mlp["write_against"] == pytest.approx(10 * mlp["write"], rel=1e-3)
    assert found["answer"].startswith(alone["answer"])
    assert f"Against {llama.name}: " in found["answer"]
    assert (out / "data" / "against.csv").is_file()


def test_a_checkpoint_with_another_prefix_is_not_compared(
    shared: Path, llama: Path, text: Path
) -> None:
    save_tokenizer(llama, bos=True)
    result = invoke(shared, "--corpus", text, "--tokens", 50, "--against", llama)
    check(result, 3, "not read with the same tokens")
    check(invoke(shared, "--tables", "--against", llama), 2, "--against")


def test_tables_of_our_own_decoder_are_read_by_the_embedded_tokenizer_of_its_ids(
    tmp_path: Path, text: Path
) -> None:
    decoder = Decoder(DEFAULT_DESIGN)
    decoder.initialise(0)
    save_decoder(decoder, DEFAULT_DESIGN, tmp_path / "own")
    found = invoke(tmp_path / "own", "--tables", "--corpus", text, "--json")
    assert found.exit_code == 0, found.stderr
    named = invoke(
        tmp_path / "own", "--tables", "--corpus", text, "--tokenizer", "bpe-4096", "--json"
    )
    assert json.loads(found.stdout)["tables"] == json.loads(named.stdout)["tables"]


def test_tables_are_read_without_running_the_model(tmp_path: Path, text: Path) -> None:
    tables = random_tables()
    tables[0][:50] = 0
    directory = save_longcat(tmp_path / "lite", tables)
    out = tmp_path / "out"
    result = invoke(directory, "--tables", "--corpus", text, "--json", "--out", out)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["answer"].startswith(
        "lite: 792 rows in 4 tables; 6.31% are zero, 0% repeat another; the corpus reads "
    )
    assert [table["num_zero"] for table in found["tables"]] == [50, 0, 0, 0]
    assert found["inputs"]["corpus"]["num_tokens"] == 900
    assert [order["order"] for order in found["orders"]] == [2, 3]
    assert (out / "README.md").read_text().startswith(found["answer"])
    for name in ("tables", "orders", "norm_by_traffic", "bits", "words"):
        assert (out / "data" / f"{name}.csv").is_file()
    assert (out / "figures" / "bits.svg").is_file()


def test_tables_without_a_text_say_nothing_of_traffic(tmp_path: Path) -> None:
    directory = save_longcat(tmp_path / "lite", random_tables())
    result = invoke(directory, "--tables", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "nothing is known of traffic" in (tmp_path / "out" / "README.md").read_text()
    assert "the corpus reads" not in result.stdout


def test_tables_of_a_model_that_has_none_are_exit_3(shared: Path, tmp_path: Path) -> None:
    check(invoke(shared, "--tables"), 3, "config.json")
    directory = save_longcat(tmp_path / "lite", random_tables())
    (directory / "model.safetensors").write_bytes(b"short")
    check(invoke(directory, "--tables"), 3, "is truncated")
    index = {"weight_map": {"model.embed_tokens.weight": "../out.safetensors"}}
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    check(invoke(directory, "--tables"), 4, "outside the directory")


def test_without_a_check_nothing_is_run_again(shared: Path, text: Path) -> None:
    advice = document(shared, text, "--no-check")["advice"]
    assert (advice["checked"], advice["num_loss_tokens"]) == (False, 0)
    assert all("checked_share" not in one for one in advice["amplifications"])
    result = invoke(shared, "--corpus", text, "--tokens", 50, "--no-check")
    assert "predicted" in result.stdout
    assert "loss change" in result.stdout


def test_a_streamed_probe_differs_in_nothing_but_what_was_hashed(shared: Path, text: Path) -> None:
    whole = document(shared, text, "--windows", 2, "--no-check")
    streamed = document(shared, text, "--windows", 2, "--stream")
    assert set(whole["inputs"]["model"].pop("sha256")) == {"config.json", "model.safetensors"}
    assert set(streamed["inputs"]["model"].pop("sha256")) == {"config.json"}
    assert set(streamed["inputs"]["model"].pop("sha256_of_headers")) == {"model.safetensors"}
    for found in (whole, streamed):
        found.pop("environment")
    assert whole == streamed


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_another_tokenizers_vocabulary_is_told_streamed_or_not(
    shared: Path, text: Path, stream: list[str]
) -> None:
    result = invoke(shared, "--corpus", text, "--tokens", 50, "--tokenizer", "bpe-4096", *stream)
    assert result.exit_code == 3
    assert "the model's vocabulary ends at 96" in result.stderr
