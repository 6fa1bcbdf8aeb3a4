"""The tables of a replay evaluation as frames."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from recsys.evaluation.ope.gates import Gate
from recsys.evaluation.replay.tables import CohortRow
from recsys.evaluation.replay.verdict import DifferenceRow, EstimateRow, Evaluation


def estimates(evaluation: Evaluation) -> pd.DataFrame:
    """Return every estimator of every policy: policy, estimator, value, low, high, interval."""
    return _frame(evaluation.estimates, EstimateRow)


def differences(evaluation: Evaluation) -> pd.DataFrame:
    """Return the paired differences: policy, against, value, low, high, relative, and whether gates let it be told."""
    frame = _frame(evaluation.differences, DifferenceRow)
    return frame.assign(may_be_told=[evaluation.may_be_told(row) for row in evaluation.differences])


def cohorts(evaluation: Evaluation) -> pd.DataFrame:
    """Return the difference by segment and cell, with bounds that hold for all cells of a segment at once."""
    return _frame(evaluation.cohorts, CohortRow)


def gates(evaluation: Evaluation) -> pd.DataFrame:
    """Return every gate and self-test: policy (empty for a test of the whole), name, verdict, value, bound, says."""
    parts = [_frame(rows, Gate).assign(policy=policy) for policy, rows in evaluation.gates.items()]
    parts.append(_frame(evaluation.self_tests, Gate).assign(policy=""))
    frame = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return frame[["policy", *(each.name for each in fields(Gate))]]


def _frame(rows: Sequence[Any], kind: type[Any]) -> pd.DataFrame:
    """Return frozen values of one kind as rows; without any the columns are there all the same."""
    return pd.DataFrame([asdict(row) for row in rows], columns=[each.name for each in fields(kind)])
