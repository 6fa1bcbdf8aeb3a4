"""One self-contained HTML page: the verdict in a sentence, why to believe it, the figures, the method."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from recsys.evaluation.ope.gates import Gate
from recsys.evaluation.ope.sums import LOGGING
from recsys.evaluation.replay.verdict import Evaluation
from recsys.evaluation.report.svg import BLUE, GREY, INK, RED, Line, bars, intervals

_COLOUR: Final = {
    "better": "#15803d",
    "worse": "#b91c1c",
    "no difference seen": "#92600a",
    "cannot say": "#4b5563",
}
_MARK: Final = {"pass": "✓ pass", "warn": "! look", "fail": "✗ fail"}
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.35rem}h2{font-size:1.05rem;margin-top:2.2rem;border-bottom:1px solid #e4e7eb;padding-bottom:.2rem}
.verdict{border-left:6px solid;padding:.8rem 1rem;background:#f8fafc;font-size:1.1rem}
table{border-collapse:collapse;width:100%;font-size:.88rem}td,th{padding:.3rem .5rem;text-align:left;vertical-align:top;
border-bottom:1px solid #edf0f3}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td:first-child{white-space:nowrap}
.pass{color:#15803d}.warn{color:#92600a}.fail{color:#b91c1c;font-weight:600}.weak{color:#9aa5b1}
p.note{color:#52606d;font-size:.88rem}code{background:#f1f5f9;padding:0 .2rem}
""".replace("\n", "")
_METHOD: Final = (
    "Every logged request was put to each policy again, in time order, with the events of its user before that "
    "moment and nothing else. A list earns the rewards of the responses that came within the window after it. The "
    "value is that of a policy's lists for the requests that were logged: users who would come back more or less "
    "often, or with other histories, are not in it.",
    "<b>DR</b> adds to a reward model's value the weighted error of the model (Dudík et al. 2011; for lists "
    "Kiyohara et al. 2022); the model is fitted on other users. <b>SNIPS</b> weighs what was earned by how much "
    "likelier the policy is to show it (Swaminathan &amp; Joachims 2015). <b>Replay</b> keeps what the policy would "
    "have shown anyway (Li et al. 2011) and is right only if all was shown equally often. <b>DM</b> is the model "
    "alone; it is never evidence.",
    "<b>SLOPE</b> (Su et al. 2020) and the least estimated squared error choose how far a family of estimators is "
    "clipped, switched or shrunk. For whole sessions, weights multiply over all that a session shows; <b>weighted</b> "
    "forms divide each step by the mean weight of all sessions there, <b>marginalised</b> ones weigh a step by how "
    "often its state, the responses so far, is visited.",
    "<b>Likelihood</b> intervals are Cressie-Read intervals of users' sums under the constraint that weights have "
    "mean 1 (Karampatziakis et al. 2020); <b>clustered</b> ones are large-sample intervals over users. Differences "
    "are paired: both policies on the same lists. Cohorts of one segment have bounds that hold for all at once.",
    "A failed gate takes the verdict away, whatever the numbers say: they are shown in grey.",
)


def as_html(evaluation: Evaluation) -> str:
    """Return the page."""
    colour = _COLOUR[evaluation.decision]
    title = f"{evaluation.policy} against {_name(evaluation.against)}"
    weak = evaluation.refused
    body = [
        f"<h1>Replay: {escape(title)}</h1>",
        f'<p class="verdict" style="border-color:{colour}"><b style="color:{colour}">{evaluation.decision}</b><br>'
        f"{escape(evaluation.sentence)}</p>",
        f'<p class="note">Assumption: {escape(evaluation.assumption)}.</p>',
        "<h2>Difference</h2>",
        intervals(
            [
                Line(
                    f"{row.policy} − {_name(row.against)}",
                    row.value,
                    row.low,
                    row.high,
                    GREY if weak else BLUE,
                    row.share,
                )
                for row in evaluation.differences
                if evaluation.may_be_told(row)
            ],
            0.0,
            "differences of policies",
        ),
        _table(
            ("policy", "against", "difference", "low", "high", "relative"),
            [
                (
                    row.policy,
                    _name(row.against),
                    *(
                        (*_numbers(row.value, row.low, row.high), row.share)
                        if evaluation.may_be_told(row)
                        else ("cannot say", "", "", "")
                    ),
                )
                for row in evaluation.differences
            ],
        ),
        "<h2>May these logs say so?</h2>",
        *[f"<h3>{escape(policy)}</h3>{_gates(gates)}" for policy, gates in evaluation.gates.items()],
        "<h3>self-tests on this log</h3>",
        _gates(evaluation.self_tests),
        "<h2>Estimators on one axis</h2>",
        '<p class="note">They differ when the model or the support fails; the red line is what the log earned.</p>',
        *_axes(evaluation, weak),
        "<h2>Weights</h2>",
        *[
            f"<h3>{escape(policy)}</h3>"
            + bars(
                edges,
                counts,
                f"weights of {policy}",
                ["0", *[f"{10**e:.2g}" for e in edges[1:]]][: len(counts)],
            )
            for policy, (edges, counts) in evaluation.weights.items()
        ],
        '<p class="note">Lists by weight, logarithmic; heights are square roots of counts; weight 0 stands left.</p>',
        "<h2>Cohorts</h2>",
        *_cohorts(evaluation),
        "<h2>Over time</h2>",
        _periods(evaluation, GREY if weak else BLUE),
        "<h2>Had it been watched</h2>",
        '<p class="note">The difference by IPS after so many lists, with bounds that hold at all moments at once: '
        "they may be read daily, and a decision taken when they leave 0 behind. The least and the largest reward of an "
        "item are those seen.</p>",
        _watched(evaluation, GREY if weak else BLUE),
        "<h2>Method</h2>",
        *[f'<p class="note">{text}</p>' for text in _METHOD],
        "<h2>Provenance</h2>",
        _table(("", ""), [(key, str(value)) for key, value in evaluation.provenance.items()]),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        + "\n".join(body)
        + "</body></html>\n"
    )


def _axes(evaluation: Evaluation, weak: bool) -> Iterable[str]:
    logged = next(row for row in evaluation.estimates if row.policy == LOGGING)
    for policy in evaluation.gates:
        rows = [row for row in evaluation.estimates if row.policy == policy]
        yield f"<h3>{escape(policy)}</h3>"
        yield intervals(
            [
                Line(
                    f"{row.estimator} ({row.interval})",
                    row.value,
                    row.low,
                    row.high,
                    RED
                    if row.estimator == "dm"
                    else GREY
                    if weak
                    else INK
                    if row.interval == "clustered"
                    else BLUE,
                )
                for row in rows
            ],
            logged.value,
            f"estimates of {policy}",
        )
    yield _table(
        ("policy", "estimator", "value", "low", "high", "interval"),
        [
            (_name(row.policy), row.estimator, *_numbers(row.value, row.low, row.high), row.interval)
            for row in evaluation.estimates
        ],
    )


def _cohorts(evaluation: Evaluation) -> Iterable[str]:
    for segment in dict.fromkeys(row.segment for row in evaluation.cohorts):
        rows = [row for row in evaluation.cohorts if row.segment == segment]
        yield f"<h3>{escape(segment)}: difference to {escape(_name(evaluation.against))}</h3>"
        yield intervals(
            [
                Line(
                    f"{row.cell} ({row.lists:,} lists)",
                    row.difference,
                    row.low,
                    row.high,
                    BLUE if row.enough and not evaluation.refused else GREY,
                    f"{row.difference:+.3g}" if row.enough else "too few",
                )
                for row in rows
            ],
            0.0,
            segment,
        )


def _periods(evaluation: Evaluation, colour: str) -> str:
    lines = [
        Line(f"part {row.number + 1} ({row.lists:,} lists)", row.value, row.low, row.high, colour)
        for row in evaluation.periods
    ]
    return intervals(lines, None, "value over time")


def _watched(evaluation: Evaluation, colour: str) -> str:
    lines = [
        Line(f"{_day(row.time)}, {row.lists:,}", row.value, row.low, row.high, colour)
        for row in evaluation.watched
    ]
    return intervals(lines, 0.0, "difference as it could be read over time")


def _day(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%d %H:%M")


def _gates(gates: Sequence[Gate]) -> str:
    rows = "".join(
        f'<tr><td class="{gate.verdict}">{_MARK[gate.verdict]}</td><td>{escape(gate.name)}</td>'
        f'<td class="n">{"" if gate.value is None else f"{gate.value:.3g}"}</td><td>{escape(gate.bound)}</td>'
        f"<td>{escape(gate.says)}</td></tr>"
        for gate in gates
    )
    return f'<table><tr><th></th><th>gate</th><th class="n">value</th><th>bound</th><th>says</th></tr>{rows}</table>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def cell(text: str, tag: str) -> str:
        looks = text[:1] in "+−-0123456789" and text[1:2] in ".0123456789%e,"
        number = looks or text in ("difference", "low", "high", "relative", "value")
        return f"<{tag}{' class=n' if number else ''}>{escape(text)}</{tag}>"

    top = "".join(cell(text, "th") for text in head)
    body = "".join(f"<tr>{''.join(cell(text, 'td') for text in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _numbers(*values: float) -> tuple[str, ...]:
    return tuple(f"{value:.5g}" for value in values)


def _name(policy: str) -> str:
    return "what was logged" if policy == LOGGING else policy
