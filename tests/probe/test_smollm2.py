import os
from pathlib import Path

import pytest

from ngscale.probe.run import load, probe_checkpoint

TOLERANCE = 0.1


@pytest.mark.slow
def test_smollm2_gives_the_norms_of_an_independent_measurement(checkout: Path) -> None:
    """SmolLM2-135M, first 1,023 tokens of Pride and Prejudice, first position excluded: layer 0
    median ratios 1.00 (attention) and 10.5 (MLP; 13.7 against the layer's input); ratios of
    medians 0.94 and 14. The 14 is the MLP's against the layer's input: against the stream it is
    added to the ratio of medians is 10.8. A BOS token in front changes nothing in two decimals.
    """
    directory = Path(os.environ.get("NGSCALE_SMOLLM2", checkout / "out" / "smollm2-135m"))
    if not directory.is_dir():
        pytest.skip(
            "needs SmolLM2-135M: python corpora/recipes/smollm2.py --out out/smollm2-135m, "
            "or its directory in NGSCALE_SMOLLM2"
        )
    novel = checkout / "corpora" / "default" / "pride_and_prejudice.txt"
    subject = load(directory, [str(novel)], None, tokens=1023, windows=1, device="cpu")
    record = probe_checkpoint(subject, done=lambda: None)
    attention, mlp = record.results["layers"][:2]
    assert attention["ratio"]["median"] == pytest.approx(1.00, rel=TOLERANCE)
    assert mlp["ratio"]["median"] == pytest.approx(10.5, rel=TOLERANCE)
    assert mlp["ratio_to_layer_input"]["median"] == pytest.approx(13.7, rel=TOLERANCE)
    assert attention["ratio_of_medians"] == pytest.approx(0.94, rel=TOLERANCE)
    assert mlp["ratio_of_medians_to_layer_input"] == pytest.approx(14, rel=TOLERANCE)
    assert record.results["num_tokens_counted"] == 1022
    assert record.results["closure"]["max_relative_error"] <= 1e-6
