"""An experiment's record -> its report."""

from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from reports.experiments.outcome import Experiment, Found, found_in

_VERDICTS = (
    "Differences are paired by seed: both arms of a pair see the same batches and start from equal "
    "weights wherever both have the tensor. Intervals are 95% t-intervals of one comparison; "
    "verdicts are adjusted for all comparisons of the experiment (Holm), and `undecided` does not "
    "say that two arms are equal. Losses are of this corpus and tokenizer: only orderings and "
    "signs compare with the paper's."
)


def build_report(record: RunRecord, experiment: Experiment) -> Report:
    """The answer, what was published, differences, arms, and what is measured beside."""
    found = found_in(record)
    return Report(
        title=experiment.title,
        answer=record.answer,
        sections=(
            Section(heading="What was published", paragraphs=(experiment.published,)),
            Section(
                heading="Differences",
                paragraphs=(_VERDICTS,),
                figures=experiment.figures(found),
                tables=(_comparison_table(found), *experiment.tables(found)),
            ),
            Section(heading="Arms", tables=(_arm_table(found, experiment),)),
            Section(
                heading="Norms through training",
                paragraphs=(
                    "Medians over the tokens of eight held-out blocks, first positions apart, "
                    "means over seeds: the write of the first attention and of the first MLP over "
                    "the stream it is added to, and the embedding's share of the stream after the "
                    "first layer (docs/method.md). The worst closure error of all is "
                    f"{max(n['closure'] for arm in found.arms for n in arm['norms']):.1g}.",
                ),
                tables=(_norm_table(found),),
            ),
        ),
    )


def _comparison_table(found: Found) -> Table:
    return Table(
        name="differences",
        title="Held-out loss, arm less baseline, nats/token",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="baseline", title="baseline"),
            Column(key="mean_difference", title="difference", spec="+.4f"),
            Column(key="low", title="95% from", spec="+.4f"),
            Column(key="high", title="to", spec="+.4f"),
            Column(key="detectable_difference", title="detectable", spec=".4f"),
            Column(key="holm_p_value", title="p (Holm)", spec=".3f"),
            Column(key="verdict", title="verdict"),
        ),
        rows=found.comparisons,
    )


def _arm_table(found: Found, experiment: Experiment) -> Table:
    seeds = sorted({seed for arm in found.arms for seed in arm["seeds"]})
    facts = [Column(key=key, title=title) for key, title in experiment.columns.items()]
    return Table(
        name="arms",
        title="Arms",
        columns=(
            Column(key="arm", title="arm"),
            *facts,
            Column(key="total_parameters", title="parameters", spec=","),
            Column(key="active_parameters", title="active", spec=","),
            Column(key="tokens_per_parameter", title="tokens/parameter", spec=".2f"),
            Column(key="tokens_per_active_parameter", title="tokens/active", spec=".1f"),
            Column(key="mean_loss", title="held-out loss", spec=".4f"),
            *(Column(key=f"seed{seed}", title=f"seed {seed}", spec=".4f") for seed in seeds),
        ),
        rows=[
            {
                **arm,
                **{f"seed{s}": loss for s, loss in zip(arm["seeds"], arm["losses"], strict=True)},
            }
            for arm in found.arms
        ],
    )


def _norm_table(found: Found) -> Table:
    return Table(
        name="norms",
        title="Norms at every evaluation",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="tokens", title="tokens", spec=","),
            Column(key="embed", title="embedding", spec=".3f"),
            Column(key="word", title="word part", spec=".3f"),
            Column(key="ngram", title="n-gram part", spec=".3f"),
            Column(key="first_attention_ratio", title="first attention", spec=".2f"),
            Column(key="first_mlp_ratio", title="first MLP", spec=".2f"),
            Column(key="share_after_first_layer", title="share", spec=".3f"),
        ),
        rows=[{"arm": arm["arm"], **point} for arm in found.arms for point in arm["norms"]],
    )


def difference_figure(found: Found, name: str, caption: str) -> Figure:
    """Every comparison as a point with its interval."""
    rows = found.comparisons
    middle = [row["mean_difference"] for row in rows]

    def ends(key: str) -> list[float]:
        return [
            mean if row[key] is None else row[key] for row, mean in zip(rows, middle, strict=True)
        ]

    return Figure(
        name=name,
        caption=caption,
        panels=(
            Panel(
                title="arm less baseline",
                x_label="",
                y_label="held-out loss, nats/token",
                series=(
                    Series(
                        label="mean and 95% interval",
                        x=list(range(len(rows))),
                        y=middle,
                        style="points",
                        low=ends("low"),
                        high=ends("high"),
                    ),
                    Series(label="", x=[-0.5, len(rows) - 0.5], y=[0, 0], style="dashed"),
                ),
                x_ticks=tuple(row["arm"] for row in rows),
            ),
        ),
    )


def curve_figure(found: Found, name: str, caption: str, *keys: tuple[str, str]) -> Figure:
    """Norms of every arm against tokens, a panel each."""
    return Figure(
        name=name,
        caption=caption,
        panels=tuple(
            Panel(
                title=title,
                x_label="tokens",
                y_label=title,
                series=tuple(
                    Series(
                        label=arm["arm"],
                        x=[point["tokens"] for point in arm["norms"]],
                        y=[point[key] for point in arm["norms"]],
                    )
                    for arm in found.arms
                ),
                y_log=True,
            )
            for key, title in keys
        ),
    )
