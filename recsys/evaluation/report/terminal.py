"""The same evaluation in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.evaluation.ope.gates import Gate
from recsys.evaluation.ope.sums import LOGGING
from recsys.evaluation.replay.verdict import Evaluation

_COLOUR = {"better": "green", "worse": "red", "no difference seen": "yellow", "cannot say": "bold magenta"}
_GATE = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def show(evaluation: Evaluation, console: Console, *, verbose: bool = False) -> None:
    """Print the verdict, the differences, gates that are not passed, and cohorts; `verbose` adds every estimate."""
    said = (
        f"whether {evaluation.policy} is better than {_name(evaluation.against)}: {evaluation.why}."
        if evaluation.refused
        else evaluation.sentence
    )
    console.print(Text(f"{evaluation.decision}: ", style=_COLOUR[evaluation.decision]) + Text(said))
    gates = [(name, gate) for name, of in evaluation.gates.items() for gate in of]
    gates += [("the log", gate) for gate in evaluation.self_tests]
    for table in (_differences(evaluation), _gates(gates)):
        if table.row_count:
            console.print(table)
    passed = sum(gate.verdict == "pass" for _, gate in gates)
    console.print(f"{passed} of {len(gates)} gates and self-tests passed")
    for table in (_cohorts(evaluation), *([_estimates(evaluation)] if verbose else [])):
        if table.row_count:
            console.print(table)


def _differences(evaluation: Evaluation) -> Table:
    table = Table("policy", "against", "difference", "low", "high", "relative", title="differences")
    for row in evaluation.differences:
        table.add_row(
            row.policy,
            _name(row.against),
            *(
                (*_numbers(row.value, row.low, row.high), row.share)
                if evaluation.may_be_told(row)
                else ("cannot say", "", "", "")
            ),
            style=_style(evaluation),
        )
    return table


def _gates(gates: Sequence[tuple[str, Gate]]) -> Table:
    table = Table("", "of", "gate", "says", title="gates and self-tests that are not simply passed")
    for name, gate in gates:
        if gate.verdict != "pass":
            table.add_row(Text(gate.verdict, style=_GATE[gate.verdict]), name, gate.name, Text(gate.says))
    return table


def _cohorts(evaluation: Evaluation) -> Table:
    table = Table("segment", "cell", "lists", "effective", "difference", "low", "high", title="cohorts")
    for cohort in evaluation.cohorts:
        table.add_row(
            cohort.segment,
            cohort.cell,
            f"{cohort.lists:,}",
            f"{cohort.effective:,.0f}",
            *(_numbers(cohort.difference, cohort.low, cohort.high) if cohort.enough else ("too few", "", "")),
            style=_style(evaluation) if cohort.enough else "dim",
        )
    return table


def _estimates(evaluation: Evaluation) -> Table:
    table = Table("policy", "estimator", "value", "low", "high", "interval", title="estimates")
    for row in evaluation.estimates:
        table.add_row(
            _name(row.policy),
            row.estimator,
            *_numbers(row.value, row.low, row.high),
            row.interval,
            style=_style(evaluation),
        )
    return table


def _style(evaluation: Evaluation) -> str:
    return "dim" if evaluation.refused else ""


def _numbers(*values: float) -> tuple[str, ...]:
    return tuple(f"{value:.4g}" for value in values)


def _name(policy: str) -> str:
    return "what was logged" if policy == LOGGING else policy
