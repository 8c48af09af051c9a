import pytest
from torch import nn

from ngscale.errors import InputError
from ngscale.probe.structure import find_structure
from tests.probe.models import HandLayer, HandModel

ROW = [1.0, 2.0]


def hand() -> HandModel:
    return HandModel([ROW], [HandLayer(ROW, ROW)])


def test_the_stack_is_found_wherever_it_is_nested() -> None:
    outer = nn.ModuleDict({"vision": nn.Linear(2, 2), "language": hand()})
    structure = find_structure(outer, "x")
    assert structure.backbone is outer["language"]
    assert structure.writes[1].module is outer["language"].get_submodule("layers.0.mlp")


@pytest.mark.parametrize("name", ["embed_tokens", "norm"])
def test_a_missing_part_is_named(name: str) -> None:
    model = hand()
    delattr(model, name)
    with pytest.raises(InputError, match=f"^ckpt: HandModel has no `{name}` or .* beside its"):
        find_structure(model, "ckpt")


@pytest.mark.parametrize("name", ["self_attn", "mlp"])
def test_a_missing_sublayer_is_named(name: str) -> None:
    model = hand()
    delattr(model.layers[0], name)
    with pytest.raises(InputError, match=rf"has no layers\.0\.`{name}` or "):
        find_structure(model, "ckpt")


def test_two_attentions_in_a_list_need_their_dense_blocks_and_experts() -> None:
    """A ModuleList never runs, so that a hook on it would see nothing."""
    model = hand()
    model.layers[0].self_attn = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    with pytest.raises(InputError, match=r"layers\.0\.`self_attn`"):
        find_structure(model, "ckpt")


def test_a_model_without_layers_says_what_probe_reads() -> None:
    with pytest.raises(InputError, match="Linear has no list of modules `layers`"):
        find_structure(nn.Linear(2, 2), "ckpt")
