"""What a proxy keeps, for designs whose claims rest on it; what it cannot is told or refused."""

from dataclasses import replace

import pytest

from ngscale import presets
from ngscale.budget.trade import config_of, mixtures, trades
from ngscale.design import Design, decoder_config, design_of, read_design
from ngscale.errors import NoResultError, SpecError
from ngscale.params import moe_of
from ngscale.proxy import Proxy, proxy
from ngscale.proxy_size import ProxySize
from ngscale.table_sizes import is_sound

LITE = read_design(presets.resolve("longcat-flash-lite"))


def small(design: Design, active: int) -> Proxy:
    return proxy(design, ProxySize(active_parameters=active))


def kept(found: Proxy) -> dict[str, tuple[float, float]]:
    return {one.name: (one.design, one.proxy) for one in found.kept}


@pytest.mark.parametrize("active", [800_000, 2_000_000, 10_000_000])
def test_lites_proxy_keeps_what_the_claim_is_about(active: int) -> None:
    found = small(LITE, active)
    numbers = kept(found)
    assert numbers["total / active"][1] == pytest.approx(15.184, rel=0.005)
    assert numbers["n-gram share of total"][1] == pytest.approx(0.4581, abs=0.02)
    for name in ("N", "K", "experts per token"):
        assert numbers[name][0] == numbers[name][1]
    assert numbers["active parameters"][1] == pytest.approx(active, rel=0.2)
    spec = found.design.ngram
    assert spec is not None
    multiples = {rows // 4096 for rows in spec.table_rows}
    assert len(multiples) == 1
    assert [rows % 4096 for rows in spec.table_rows] == [2 * i + 1 for i in range(12)]
    assert found.resonance == "integer multiples of V0"
    assert any("shortcut" in sentence for sentence in found.lost)
    assert any("zero experts" in sentence for sentence in found.lost)
    assert design_of(decoder_config(found.design)) == found.design


def test_sound_sizes_stay_sound() -> None:
    own = mixtures(LITE.model, None, "bf16")[2]
    trade = list(trades(own, 68_562_465_024, ((4, 4),), max_share=0.5, max_counts=4))[-1]
    design = design_of(config_of(trade, 77.982))
    found = small(design, 2_000_000)
    spec = found.design.ngram
    assert spec is not None
    assert found.resonance == "sizes that pass the audit"
    assert is_sound(spec.table_rows, 4096, spec.table_orders)


def test_depth_and_vocabulary_are_as_asked() -> None:
    found = proxy(LITE, ProxySize(active_parameters=3_000_000, vocab_size=8192, num_layers=6))
    assert found.design.model.vocab_size == 8192
    assert found.design.model.num_layers == 6
    assert moe_of(found.design.model).top_k == 12


def test_what_has_no_proxy_is_refused() -> None:
    with pytest.raises(SpecError, match="no n-gram tables"):
        small(Design(model=LITE.model), 2_000_000)
    with pytest.raises(NoResultError, match="ask for more"):
        small(LITE, 10_000)
    (spec,) = LITE.ngrams
    other = replace(LITE, ngrams=(replace(spec, fusion="concat"),))
    with pytest.raises(SpecError, match="average fusion only"):
        small(other, 2_000_000)
