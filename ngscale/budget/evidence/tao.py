"""Scaling laws with vocabulary (arXiv:2407.13623): dense models, data in characters."""

from ngscale.budget.evidence.law import NO_TABLES, Law, Range

COEFFICIENTS = {
    "A1": 1.831,
    "A2": 0.196,
    "B": 2.124,
    "E": 5.533,
    "alpha1": 0.447,
    "alpha2": 0.671,
    "beta": 0.447,
}


def unigram_normalised_loss(
    *,
    non_vocabulary_parameters: float,
    vocabulary_parameters: float,
    training_characters: float,
) -> float:
    """``L_u``, the loss less that of a unigram model.

    The coefficients belong to parameters in millions and data in billions: the study's published
    fitting script (sail-sg/scaling-with-vocab, ``approach3_isoloss.py``) divides so. Taken in
    single parameters, every term but E would vanish.
    """
    k = COEFFICIENTS
    return float(
        -k["E"]
        + k["A1"] / (non_vocabulary_parameters / 1e6) ** k["alpha1"]
        + k["A2"] / (vocabulary_parameters / 1e6) ** k["alpha2"]
        + k["B"] / (training_characters / 1e9) ** k["beta"]
    )


LAWS = (
    Law(
        key="tao",
        source="arXiv:2407.13623 (parametric fit)",
        standing="secondary account",
        formula="L_u = -E + A1/N_nv^alpha1 + A2/N_v^alpha2 + B/H^beta",
        coefficients=COEFFICIENTS,
        units="nats, less a unigram model's",
        denominator="a unigram model of the same tokenizer",
        scope="dense models, 33M to 3B, vocabularies of 4K to 96K, up to 500B characters; N in "
        "millions and H in billions, as the published script fits it; the script turns H into a "
        "kind of token count that it does not define, so H is never known to be inside",
        validity=(
            Range(
                quantity="num_experts", unit="experts", low=1, high=1, why="the models were dense"
            ),
            Range(quantity="non_vocabulary_parameters", unit="parameters", low=33e6, high=3e9),
            Range(quantity="vocabulary_parameters", unit="parameters", low=2.1e6, high=307.2e6),
            Range(quantity="training_characters", unit="characters", low=None, high=500e9),
            NO_TABLES,
        ),
        compute=unigram_normalised_loss,
        conditions=("ngram_parameters", "num_experts"),
    ),
)
