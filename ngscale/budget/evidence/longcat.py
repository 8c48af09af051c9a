"""LongCat's study (arXiv:2601.21204): rules by total/active ratio, width and depth.

Its curves are figures, so no value of a point is known; what the text says of them gives signs.
"""

from collections.abc import Callable

from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.fixed_total import Difference
from ngscale.budget.evidence.law import Range, number
from ngscale.budget.evidence.rule import Measure, Rule
from ngscale.budget.warnings import NEAR_MULTIPLE_FRAC, SHARE_CAP, distance_to_multiple

BASE_RATIO = 12.0
"""Total/active of the MoE that the high-sparsity curve of Fig. 2 adds tables to."""
CROSSING = 20.0
"""The curves cross "slightly above a ratio of 20"."""
ALWAYS_WORSE = 30.0
"""Fig. 6: at 280M active, tables "consistently underperform" above this ratio."""
STILL_BETTER = 50.0
"""Fig. 7a: at 1.3B active, a "clear advantage even at ratios as high as 50"."""
SOURCE = "arXiv:2601.21204"

_SIZES = {"280M": (275e6, 285e6), "790M": (785e6, 795e6), "1.3B": (1.25e9, 1.35e9)}
"""Active parameters of the three backbones, as far as their rounding goes."""


def _active(size: str) -> Range:
    low, high = _SIZES[size]
    return Range(
        quantity="active_parameters",
        unit="parameters",
        low=low,
        high=high,
        why=f"found at {size} active only",
    )


def share_on_curve(total_active_ratio: float) -> float:
    """Share of total on the high-sparsity curve of Fig. 2, ``1 - 12/r`` (our arithmetic)."""
    return 1 - BASE_RATIO / total_active_ratio


def sign(facts: Facts) -> Difference:
    """Whether tables beat the equal-total MoE, by the text on Fig. 2, 6 and 7a; never a number."""
    verdict, reason = _sign(facts)
    label = "outside evidence: " if verdict is None else "sign only, no value is published: "
    return Difference(source=SOURCE, nats=None, sign=verdict, reason=label + reason)


def _sign(facts: Facts) -> tuple[int | None, str]:
    ratio, base = facts.total_active_ratio, facts.base_ratio
    size = next(
        (name for name, (a, b) in _SIZES.items() if a <= facts.active_parameters <= b), None
    )
    at = f"total/active {number(ratio)}"
    if facts.ngram_parameters == 0:
        return 0, "without tables the design is the MoE"
    if size is None:
        return None, (
            f"{number(facts.active_parameters)} active parameters are none of its sizes 280M, "
            "790M and 1.3B, and the crossing moves with width"
        )
    if size == "280M" and ratio > ALWAYS_WORSE:
        return 1, f"{at} is above 30, where tables were always worse at 280M active"
    if size == "280M" and 11.5 <= base <= 12.5 and ratio <= CROSSING:
        return -1, f"{at} from a base MoE of 12 is below the crossing slightly above 20 (Fig. 2)"
    if size == "280M":
        return None, f"{at} from a base MoE of {number(base)}: the text fixes no sign there"
    if size == "790M":
        return None, f"{at}: at 790M its training and validation sets do not agree above 30"
    if CROSSING <= ratio <= STILL_BETTER:
        return -1, f"{at} is within the ratios up to 50 where tables won at 1.3B active"
    return None, f"{at}: at 1.3B active the text speaks of ratios up to 50 only"


def _entry(facts: Facts) -> Measure:
    ratio, base = facts.total_active_ratio, facts.base_ratio
    keeps = None
    if 11.5 <= base <= 12.5 and ratio <= CROSSING:
        keeps = True
    elif ratio > ALWAYS_WORSE:
        keeps = False
    return Measure(
        value=ratio,
        keeps=keeps,
        sentence=f"total/active is {ratio:.1f}, {base:.1f} without the tables; from a base of 12 "
        "tables beat experts up to slightly above 20",
    )


def _cap(facts: Facts) -> Measure:
    share = float(facts.share("total parameters"))
    return Measure(
        value=share,
        keeps=share <= SHARE_CAP,
        sentence=f"tables hold {share:.2%} of all parameters; the paper's cap is 50%",
    )


def _width(facts: Facts) -> Measure:
    verdict, reason = _sign(facts)
    return Measure(
        value=facts.total_active_ratio,
        keeps=None if verdict is None else verdict <= 0,
        sentence=reason,
    )


def _depth(facts: Facts) -> Measure:
    layers = facts.num_shortcut_layers
    share = float(facts.share("total parameters"))
    if layers is None:
        return Measure(value=None, keeps=None, sentence="the number of shortcut layers is unknown")
    tried = 10 <= layers <= 40 and 0.45 <= share <= 0.55
    return Measure(
        value=layers,
        keeps=layers <= 20 if tried else None,
        sentence=f"{layers} shortcut layers with {share:.0%} of total in tables; the gain was "
        "measured from 10 to 40 layers at about 50%, contracts beyond 20 and is still positive "
        "at 40",
    )


def _orders(facts: Facts) -> Measure:
    N, K = facts.max_order, facts.num_subtables
    if N is None or K is None:
        return Measure(value=None, keeps=None, sentence="the design has no orders and sub-tables")
    tried = N <= 7 and K <= 4
    return Measure(
        value=N,
        keeps=3 <= N <= 5 and K >= 2 if tried else None,
        sentence=f"N = {N}, K = {K}; of N 2-7 and K 1-4, N 3-5 with K >= 2 was near-optimal and "
        "N2-K1 notably worst, within a spread of 0.0175 nats",
    )


def _table_size(facts: Facts) -> Measure:
    V = facts.hash_base
    if V is None or not facts.table_rows:
        return Measure(value=None, keeps=None, sentence="the design has no base of a polynomial")
    near = [rows for rows in facts.table_rows if _is_near(rows, V)]
    away = min(distance_to_multiple(rows, V) for rows in facts.table_rows)
    return Measure(
        value=away / V,
        keeps=not near,
        sentence=f"{len(near)} of {len(facts.table_rows)} table sizes are within "
        f"{NEAR_MULTIPLE_FRAC:.1%} of the hash base {V} of an integer multiple of it; 2-gram "
        "collisions spike there",
    )


def _is_near(rows: int, V: int) -> bool:
    return distance_to_multiple(rows, V) < NEAR_MULTIPLE_FRAC * V


def _amplification(facts: Facts) -> Measure:
    ratio = facts.first_attention_ratio
    if ratio is None:
        return Measure(value=None, keeps=None, sentence="the first attention's ratio is unknown")
    drowned = ratio >= 5  # "about 10", to one digit, can be no less
    return Measure(
        value=ratio,
        keeps=True if drowned else None,
        sentence=f"the first attention's output is {ratio:.1f} times its identity branch; at "
        "about 10 amplification lowered the loss by 0.02",
    )


def _rule(
    key: str,
    place: str,
    statement: str,
    measure: Callable[[Facts], Measure],
    *,
    numbers: dict[str, float],
    denominator: str,
    units: str,
    scope: str,
    validity: tuple[Range, ...] = (),
) -> Rule:
    return Rule(
        key=key,
        source=f"{SOURCE} ({place})",
        standing="published",
        statement=statement,
        numbers=numbers,
        units=units,
        denominator=denominator,
        scope=scope,
        validity=validity,
        measure=measure,
    )


RULES = (
    _rule(
        "longcat.entry",
        "Principle 1, Fig. 2",
        "add tables once experts are past their sweet spot: from a base ratio of 12 they beat "
        "experts up to slightly above 20",
        _entry,
        numbers={"base": BASE_RATIO, "crossing": CROSSING},
        units="total / active",
        denominator="active parameters",
        scope="280M active, training loss, 300B tokens",
        validity=(_active("280M"),),
    ),
    _rule(
        "longcat.cap",
        "Principle 2",
        "at most 50% of all parameters in tables",
        _cap,
        numbers={"cap": SHARE_CAP},
        units="share",
        denominator="total parameters",
        scope="280M active; at 1.3B active tables still won at a ratio of 50, about 76% of total "
        "if the base was near 12 there too",
        validity=(_active("280M"),),
    ),
    _rule(
        "longcat.width",
        "Fig. 6, 7a",
        "the crossing moves right with width: 280M active always worse above 30, 1.3B better at 50",
        _width,
        numbers={"280M": ALWAYS_WORSE, "1.3B": STILL_BETTER},
        units="total / active",
        denominator="active parameters",
        scope="280M, 790M and 1.3B active, 10 shortcut layers, 300B tokens",
    ),
    _rule(
        "longcat.depth",
        "Fig. 7b",
        "the gain contracts beyond 20 shortcut layers (40 ordinary ones)",
        _depth,
        numbers={"layers": 20},
        units="shortcut layers",
        denominator="loss reduction against the equal-total MoE",
        scope="1.3B active, tables about 50% of total",
        validity=(_active("1.3B"),),
    ),
    _rule(
        "longcat.orders",
        "Fig. 4",
        "N in 3..5 and K >= 2",
        _orders,
        numbers={"N_low": 3, "N_high": 5, "K_low": 2},
        units="orders, sub-tables per order",
        denominator="none",
        scope="790M active, one operating point",
        validity=(_active("790M"),),
    ),
    _rule(
        "longcat.table-size",
        "Principle 3, Fig. 3b",
        "table sizes away from integer multiples of the base vocabulary",
        _table_size,
        numbers={"near": NEAR_MULTIPLE_FRAC},
        units="distance / base vocabulary",
        denominator="base vocabulary V0",
        scope="measured at 30 to 33 times V0 on 2-grams; that it holds at any multiple is number "
        "theory, and how near is near is ours",
    ),
    _rule(
        "longcat.amplification",
        "sec. 3.2.4, Fig. 5",
        "amplify the embedding (sqrt(D) or LayerNorm) where the first attention drowns it",
        _amplification,
        numbers={"ratio": 10, "nats": -0.02},
        units="norm / norm of the identity branch",
        denominator="the un-amplified model",
        scope="after 300B tokens",
    ),
)
