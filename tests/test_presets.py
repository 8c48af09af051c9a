"""What a target means, and that every preset says where it comes from."""

import tomllib
from pathlib import Path

import pytest

from ngscale import presets
from ngscale.config_reader import read_config
from ngscale.design import read_design
from ngscale.errors import InputError
from ngscale.model_spec import LatentAttention
from ngscale.ngram_config import read_specs


def test_every_preset_has_a_source() -> None:
    sources = tomllib.loads((Path(presets.__file__).parent / "sources.toml").read_text())
    assert sorted(sources) == presets.all_names()
    for source in sources.values():
        assert {"model", "paper", "values", "published"} <= set(source)


def test_presets_of_whole_models_are_those_whose_shapes_are_all_published() -> None:
    """LongCat-2.0 is absent on purpose: its attention dimensions are not published."""
    with_tables = [name for name in presets.names() if name in presets.with_tables()]
    assert with_tables == [
        "deepseek-v4.1-flash",
        "longcat-flash-lite",
        "longcat-flash-lite-sparse",
    ]
    for name in presets.names():
        read_design(presets.resolve(name))


def test_presets_with_tables_are_those_that_have_a_spec() -> None:
    for name in presets.all_names():
        if name in presets.with_tables():
            assert read_specs(presets.resolve(name))
        else:
            with pytest.raises(
                InputError, match=r"no n-gram tables|is not understood; known: longcat"
            ):
                read_specs(presets.resolve(name))


def test_a_model_with_a_joint_vocabulary_is_not_counted() -> None:
    """LongCat-Next's lm_head has 131,125 rows, its embedding 282,624."""
    with pytest.raises(InputError, match="text_vocab_size"):
        read_design(presets.resolve("longcat-next"))


def test_the_sparse_preset_is_lite_plus_indexers() -> None:
    """Lite-Sparse (arXiv:2608.01662) writes the oe_* keys and has no model_type."""
    lite = read_design(presets.resolve("longcat-flash-lite"))
    sparse = read_design(presets.resolve("longcat-flash-lite-sparse"))
    assert sparse.ngram == lite.ngram
    ((_, layer),) = sparse.model.layers
    first, second = layer.attentions
    assert isinstance(first, LatentAttention)
    assert isinstance(second, LatentAttention)
    assert first.indexer is not None
    assert (first.indexer.num_heads, first.indexer.head_dim) == (16, 128)
    assert second.indexer is None
    keys = read_config(presets.resolve("longcat-flash-lite-sparse")).values
    assert "model_type" not in keys
    assert not any(key.startswith(("ngram_", "emb_")) for key in keys)


def test_a_preset_goes_before_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("longcat-flash-lite").write_text("{}")
    assert presets.resolve("longcat-flash-lite").parent == Path(presets.__file__).parent
    assert presets.resolve("./longcat-flash-lite") == Path("longcat-flash-lite")


def test_a_directory_means_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert presets.resolve(str(tmp_path)) == tmp_path / "config.json"
    assert presets.resolve(str(tmp_path / "config.json")) == tmp_path / "config.json"


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the directory holds no config\.json"):
        presets.resolve(str(tmp_path))


def test_an_unknown_target_lists_the_presets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file, .* presets: blt, deepseek-v3, "):
        presets.resolve(str(tmp_path / "longcat-flash"))


def test_a_name_the_file_system_refuses_is_an_input_error() -> None:
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        presets.resolve("x" * 5000)


@pytest.mark.parametrize(
    ("target", "title"),
    [
        ("longcat-flash-lite", "longcat-flash-lite"),
        ("models/lite/config.json", "lite"),
        ("/somewhere/models/lite/", "lite"),
        ("plans/wide.json", "wide.json"),
        ("config.json", "config.json"),
        (".", "config.json"),
        ("..", "config.json"),
        ("bad\udcffname.json", "bad?name.json"),
    ],
)
def test_a_title_is_the_last_word_of_a_target(target: str, title: str) -> None:
    assert presets.title(target) == title
