"""What a person reads of a table autopsy."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.probe.autopsy import BITS
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table

_TABLE_COLUMNS = (
    Column(key="name", title="table"),
    Column(key="order", title="order"),
    Column(key="num_rows", title="rows", spec=","),
    Column(key="norm_median", title="norm", spec=".4g"),
    Column(key="norm_p5", title="p5", spec=".4g"),
    Column(key="norm_p95", title="p95", spec=".4g"),
    Column(key="projected_norm_median", title="|P r|", spec=".4g"),
    Column(key="num_zero", title="zero", spec=","),
    Column(key="num_at_init", title="as new", spec=","),
    Column(key="num_duplicates", title="repeated", spec=","),
    Column(key="num_read", title="read", spec=","),
    Column(key="spearman", title="traffic~norm", spec=".3f"),
    Column(key="effective_rank", title="rank", spec=".1f"),
    Column(key="width", title="d"),
)
_ORDER_COLUMNS = (
    Column(key="order", title="order"),
    Column(key="tables", title="tables"),
    Column(key="num_rows", title="rows", spec=","),
    Column(key="norm_median", title="norm", spec=".4g"),
    Column(key="zero_frac", title="zero", spec=".4f"),
    Column(key="duplicate_frac", title="repeated", spec=".4f"),
    Column(key="read_frac", title="read", spec=".4f"),
    Column(key="effective_rank_frac", title="rank / d", spec=".3f"),
)


def build_report(record: RunRecord) -> Report:
    """The report of ``probe --tables``."""
    return Report(
        title="What is in the n-gram tables",
        answer=record.answer,
        sections=(_rows_section(record), _bits_section(record), _word_section(record)),
    )


def _rows_section(record: RunRecord) -> Section:
    corpus = record.inputs["corpus"]
    by_text = (
        "No corpus was given, so nothing is known of traffic."
        if corpus is None
        else f"Traffic is that of {corpus['num_tokens']:,} tokens in {corpus['num_docs']:,} "
        "documents, which no look-back crosses."
    )
    rows = [_flat(table) for table in record.results["tables"]]
    traffic = [
        {"table": table["name"], **bucket}
        for table in record.results["tables"]
        for bucket in table["norm_by_traffic"]
    ]
    buckets = (
        Table(
            name="norm_by_traffic",
            title="Median norm of rows by how often the corpus reads them",
            columns=tuple(
                Column(key=key, title=key) for key in ("table", "reads_from", "rows", "norm_median")
            ),
            rows=traffic,
            terminal=False,
        ),
    )
    return Section(
        heading="Rows",
        paragraphs=(
            f"{by_text} 'As new' are rows whose norm new weights of the config's "
            "initializer_range would have, so at most that many were never trained; 'repeated' are "
            "rows equal bit for bit to an earlier one, zero rows not counted; rank is exp of the "
            "entropy of the singular values.",
        ),
        tables=(
            Table(name="tables", title="Rows by table", columns=_TABLE_COLUMNS, rows=rows),
            Table(
                name="orders",
                title="Rows by order",
                columns=_ORDER_COLUMNS,
                rows=record.results["orders"],
            ),
            *(buckets if traffic else ()),
        ),
    )


def _bits_section(record: RunRecord) -> Section:
    tables = record.results["tables"]
    rows = [
        {
            "table": table["name"],
            "scale": scale,
            **{f"b{bits}": table["errors"][scale][str(bits)] for bits in BITS},
            "lowest": table["lowest_bits"][scale],
        }
        for table in tables
        for scale in ("row", "block")
    ]
    kept = record.results["quantisation"]
    weighted = "each row counted as often as the corpus reads it"
    if record.inputs["corpus"] is None:
        weighted = "every row counted once"
    return Section(
        heading="Fewer bits",
        paragraphs=(
            f"sqrt(sum |r - q(r)|^2 / sum |r|^2), {weighted}: symmetric integers scaled to the "
            f"largest entry of the row, or of {kept['block']} columns. 'Lowest' is the fewest bits "
            f"with at most {100 * kept['error_line']:.0f}%, a line of ours: nobody has published "
            "what an error of the rows does to the loss.",
        ),
        figures=(_figure(tables),),
        tables=(
            Table(
                name="bits",
                title="Relative error by bits",
                columns=(
                    Column(key="table", title="table"),
                    Column(key="scale", title="scale per"),
                    *(Column(key=f"b{bits}", title=f"{bits} bits", spec=".4f") for bits in BITS),
                    Column(key="lowest", title="lowest"),
                ),
                rows=rows,
            ),
        ),
    )


def _figure(tables: Sequence[Mapping[str, Any]]) -> Figure:
    return Figure(
        name="bits",
        caption="Relative error of the rows that are read, by bits, scales per block.",
        panels=(
            Panel(
                title="Error by bits",
                x_label="bits",
                y_label="relative error",
                y_log=True,
                series=tuple(
                    Series(
                        label=table["name"],
                        x=list(BITS),
                        y=[table["errors"]["block"][str(bits)] for bits in BITS],
                    )
                    for table in tables
                ),
            ),
        ),
    )


def _word_section(record: RunRecord) -> Section:
    words, compared = record.results["words"], record.results["word_and_ngram"]
    rows = [{"part": "word rows (all)", **words["norm"]}]
    if compared is None:
        text = (
            "Word and n-gram part are compared as vectors only with a --corpus, and only for "
            "tables at the input that have a projection each."
        )
    else:
        rows += [
            {"part": "W[t] of the text", **compared["word_norm"]},
            {"part": "sum of P_i r_i of the text", **compared["ngram_norm"]},
        ]
        over = compared["ngram_over_word"]
        text = (
            f"At {compared['num_tokens']:,} tokens the n-gram part is {over['mean']:.3g} times the "
            "word part where both are divided by 1 + E (word_scale mean), and "
            f"{over['sum_only']:.3g} times where the sum of rows alone is (sum_only). config.json "
            f"is read as {compared['word_scale_of_config']}. Implementations disagree on this "
            "(D3); an exporter that folded 1/(1 + E) into the word embedding shows as word rows "
            "that much smaller than those of a sibling checkpoint, so compare two: one alone does "
            "not decide."
        )
    columns = (
        Column(key="part", title="part"),
        *(Column(key=key, title=key, spec=".4g") for key in ("p5", "median", "p95")),
    )
    return Section(
        heading="Words against n-grams",
        paragraphs=(text,),
        tables=(Table(name="words", title="L2 norms", columns=columns, rows=rows),),
    )


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and quantiles of a table; errors and traffic have tables of their own."""
    flat = {key: value for key, value in table.items() if not isinstance(value, list | Mapping)}
    for key in ("norm", "projected_norm"):
        for name, value in (table[key] or {}).items():
            flat[f"{key}_{name}"] = value
    return flat
