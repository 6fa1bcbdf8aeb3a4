"""The same evaluation in the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.evaluation.ope.sums import LOGGING
from recsys.evaluation.replay.verdict import Evaluation

_COLOUR = {"better": "green", "worse": "red", "no difference seen": "yellow", "cannot say": "bold magenta"}
_GATE = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def show(evaluation: Evaluation, console: Console) -> None:
    """Print gates that are not passed, differences, estimates, cohorts and the verdict, which stands last."""
    grey = "dim" if evaluation.refused else ""
    differences = Table("policy", "against", "difference", "low", "high", "relative", title="differences")
    for row in evaluation.differences:
        differences.add_row(
            row.policy,
            _name(row.against),
            *(
                (*_numbers(row.value, row.low, row.high), row.share)
                if evaluation.may_be_told(row)
                else ("cannot say", "", "", "")
            ),
            style=grey,
        )
    estimates = Table("policy", "estimator", "value", "low", "high", "interval", title="estimates")
    for each in evaluation.estimates:
        estimates.add_row(
            _name(each.policy),
            each.estimator,
            *_numbers(each.value, each.low, each.high),
            each.interval,
            style=grey,
        )
    cohorts = Table("segment", "cell", "lists", "effective", "difference", "low", "high", title="cohorts")
    for cohort in evaluation.cohorts:
        cohorts.add_row(
            cohort.segment,
            cohort.cell,
            f"{cohort.lists:,}",
            f"{cohort.effective:,.0f}",
            *(_numbers(cohort.difference, cohort.low, cohort.high) if cohort.enough else ("too few", "", "")),
            style="" if cohort.enough and not evaluation.refused else "dim",
        )
    gates = Table("", "of", "gate", "says", title="gates and self-tests that are not simply passed")
    everything = [*[(name, gate) for name, of in evaluation.gates.items() for gate in of]]
    everything += [("the log", gate) for gate in evaluation.self_tests]
    for name, gate in everything:
        if gate.verdict != "pass":
            gates.add_row(Text(gate.verdict, style=_GATE[gate.verdict]), name, gate.name, Text(gate.says))
    passed = sum(gate.verdict == "pass" for _, gate in everything)
    for table in (estimates, cohorts, differences, gates):
        if table.row_count:
            console.print(table)
    console.print(f"{passed} of {len(everything)} gates and self-tests passed")
    console.print(
        Text(f"{evaluation.decision}: ", style=_COLOUR[evaluation.decision]) + Text(evaluation.sentence)
    )


def _numbers(*values: float) -> tuple[str, ...]:
    return tuple(f"{value:.4g}" for value in values)


def _name(policy: str) -> str:
    return "what was logged" if policy == LOGGING else policy
