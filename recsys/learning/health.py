"""Is the Q-function sound? Figures of logged transitions that are logged each epoch and kept beside the weights.

Over-estimation shows as max-Q that jumps away from what the log earns; lack of support as best actions that the log
hardly took; a Q that is no return as bins of predicted value whose realised return differs.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from recsys.learning.step_losses import TransitionFigures

BINS = 10
QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class CalibrationBin:
    """Transitions of similar Q(s_t, a_t): what was predicted and what the log earned from there on."""

    predicted: float
    realised: float
    count: int


@dataclass(frozen=True)
class QHealth:
    """Figures over some transitions; NaN where a head or the realised return is missing."""

    mean_max_q: float  # over supported candidates of next states
    mean_return: float  # logged n-step return with bootstrap by U
    unsupported_argmax: float  # share of next states whose best candidate the log does not support
    td_error_50: float
    td_error_90: float
    td_error_99: float
    calibration_error: float  # mean |predicted − realised| over bins, weighted by count
    calibration: tuple[CalibrationBin, ...]  # bins of equal count, by predicted value
    promised: float = float("nan")  # mean max-Q where held-out histories begin
    fitted_value: float = float("nan")  # what the best by Q brings from there, by fitted Q evaluation

    @property
    def over_estimation(self) -> float:
        """Mean max-Q over mean logged return: improvement puts it somewhat above 1, a jump is an alarm.

        NaN where the log earns nothing: a ratio to that says nothing.
        """
        return self.mean_max_q / self.mean_return if self.mean_return > 0 else float("nan")

    @property
    def over_promise(self) -> float:
        """Promised value over what fitted Q evaluation finds for the same policy: 1 where the promise is kept.

        NaN where nobody evaluated, or where the policy is found to bring nothing.
        """
        return self.promised / self.fitted_value if self.fitted_value > 0 else float("nan")

    def scalars(self) -> dict[str, float]:
        """Return every figure but the bins, by name."""
        plain = {name: value for name, value in asdict(self).items() if name != "calibration"}
        return {**plain, "over_estimation": self.over_estimation, "over_promise": self.over_promise}

    def plain(self) -> dict[str, object]:
        """Return JSON-able values; what is not a number becomes None."""
        numbers = {name: value if np.isfinite(value) else None for name, value in self.scalars().items()}
        return {**numbers, "calibration": [asdict(each) for each in self.calibration]}


def read_health(path: Path) -> QHealth:
    """Return the figures that a pretraining left beside its weights (health.json)."""
    told = json.loads(path.read_text(encoding="utf-8"))
    numbers = {
        each.name: float("nan") if told.get(each.name) is None else float(told[each.name])
        for each in fields(QHealth)
        if each.name != "calibration"
    }
    return QHealth(**numbers, calibration=tuple(CalibrationBin(**each) for each in told["calibration"]))


def q_health(figures: Iterable[TransitionFigures]) -> QHealth:
    """Return the figures of all transitions of some batches."""
    every = list(figures)
    q_value = _joined([each.q_value for each in every])
    realised = _joined([each.realised for each in every])
    error = _joined([each.td_error for each in every])
    spread = np.quantile(error, QUANTILES) if len(error) else np.full(len(QUANTILES), np.nan)
    bins = calibration_bins(q_value, realised) if len(realised) == len(q_value) else ()
    total = sum(each.count for each in bins)
    return QHealth(
        mean_max_q=_mean(_joined([each.of_next_states(each.max_q) for each in every])),
        mean_return=_mean(_joined([each.logged_return for each in every])),
        unsupported_argmax=_mean(_joined([each.of_next_states(each.unsupported) for each in every])),
        td_error_50=float(spread[0]),
        td_error_90=float(spread[1]),
        td_error_99=float(spread[2]),
        calibration_error=sum(each.count * abs(each.predicted - each.realised) for each in bins) / total
        if total
        else float("nan"),
        calibration=bins,
    )


def calibration_bins(
    predicted: np.ndarray[tuple[int], np.dtype[np.float64]],
    realised: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[CalibrationBin, ...]:
    """Return up to BINS bins of equal count, by predicted value."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), BINS)
    return tuple(
        CalibrationBin(float(predicted[rows].mean()), float(realised[rows].mean()), len(rows))
        for rows in parts
        if len(rows)
    )


def _joined(columns: list[torch.Tensor | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the values of columns end to end; empty if one is missing."""
    present = [column for column in columns if column is not None]
    if len(present) < len(columns) or not present:
        return np.empty(0, np.float64)
    return torch.cat(present).double().cpu().numpy()


def _mean(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(values.mean()) if len(values) else float("nan")
