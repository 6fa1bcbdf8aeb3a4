"""Which figures of the Q-function a version must keep within bounds before it may become the champion.

    over-estimation   mean max-Q over supported next actions / mean logged return
    unsupported       share of next states whose best action the log does not support
    calibration       mean |predicted − realised return| over bins / mean logged return
    over-promise      mean max-Q of new histories / value of that policy by fitted Q evaluation

The figures are those of the teacher on histories it did not learn from (`recsys/learning/health.py`). A figure that
nothing could be read for is unknown: it stops nothing, and the card says so. Over-promise is a figure only where a
config asks for it (pretrain.fqe_epochs).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys.config import PublishConfig
from recsys.errors import UserError


@dataclass(frozen=True)
class HealthCheck:
    """One figure beside the most it may be."""

    name: str
    setting: str  # of [publish]
    value: float | None  # None = unknown
    bound: float
    remedy: str

    @property
    def passed(self) -> bool:
        """Whether the figure is known and within its bound."""
        return self.value is not None and self.value <= self.bound

    @property
    def failed(self) -> bool:
        """Whether the figure is known and beyond its bound."""
        return self.value is not None and not self.passed


def health_checks(health: Mapping[str, object], config: PublishConfig) -> list[HealthCheck]:
    """Return every figure of a `health.json` that has a bound."""
    mean_return, error = _number(health, "mean_return"), _number(health, "calibration_error")
    relative = (
        error / mean_return if error is not None and mean_return is not None and mean_return > 0 else None
    )
    checks = [
        HealthCheck(
            "over-estimation",
            "max_over_estimation",
            _number(health, "over_estimation"),
            config.max_over_estimation,
            "retrain with a lower pretrain.discount or pretrain.target=sarsa",
        ),
        HealthCheck(
            "unsupported argmax",
            "max_unsupported_argmax",
            _number(health, "unsupported_argmax"),
            config.max_unsupported_argmax,
            "retrain with a higher pretrain.conservative_weight or pretrain.target=supported_max",
        ),
        HealthCheck(
            "calibration error",
            "max_calibration_error",
            relative,
            config.max_calibration_error,
            "retrain with more pretrain.epochs or a higher pretrain.td_weight",
        ),
    ]
    promised, fitted = _number(health, "promised"), _number(health, "fitted_value")
    if promised is not None and fitted is not None:
        worthless = fitted <= 0 < promised  # then there is no ratio to read
        over_promise = math.inf if worthless else _number(health, "over_promise")
        remedy = "retrain with a lower pretrain.learning_rate or pretrain.discount, or on more histories"
        checks.append(
            HealthCheck("over-promise", "max_over_promise", over_promise, config.max_over_promise, remedy)
        )
    return checks


def hold_to_bounds(checks: Sequence[HealthCheck]) -> None:
    """Raise UserError, one line, at the first figure that is beyond its bound."""
    for check in checks:
        if check.failed:
            raise UserError(
                f"the {check.name} of the Q-function is {check.value:.3g}, must be at most "
                f"publish.{check.setting} ({check.bound:g}); {check.remedy}, or raise the bound with "
                f"--set publish.{check.setting}=…"
            )


def _number(health: Mapping[str, object], name: str) -> float | None:
    value = health.get(name)
    return float(value) if isinstance(value, int | float) else None
