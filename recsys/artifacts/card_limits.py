"""What a version cannot be relied on for, read off its data and its figures; part of the model card."""

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.artifacts.health_gate import HealthCheck
from recsys.columns import IMPRESSION
from recsys.logs.prepared import PreparedInfo

FEW_USERS = 200  # below that an interval over users is wide


def card_limits(info: PreparedInfo, evaluation: Mapping[str, Any], health: Sequence[HealthCheck]) -> str:
    """Return the section on limits: every line follows from what was measured, or from what was not."""
    limits = []
    users = evaluation.get("users", 0)
    if not evaluation.get("policies"):
        limits.append("No quality was measured for this version.")
    elif isinstance(users, int) and users < FEW_USERS:
        limits.append(f"Quality rests on {users} users: small differences cannot be told from chance.")
    if info.test_from is None:
        limits.append(
            "Users were held out, not a later time: how fast the model ages, and trends, are not in the figures."
        )
    else:
        limits.append(
            f"Nothing after {info.test_from} was learnt from; items first seen later rank by content alone."
        )
    if not info.impressions:
        limits.append(
            "The log says nothing of what was shown: what users did not choose is taken for not wanted, and offline "
            "figures favour what earlier choices made visible."
        )
    silent = [name for name in info.event_types if name != IMPRESSION and info.reward_base.get(name, 0.0) < 0]
    if silent:
        limits.append(f"Negative feedback is known as {', '.join(silent)} only.")
    if info.user_attributes:
        limits.append(
            f"Reads {', '.join(info.user_attributes)} of users where it is told; values seen rarely share one code."
        )
    unknown = [check.name for check in health if check.value is None]
    if unknown:
        limits.append(f"Not known of the Q-function: {', '.join(unknown)}.")
    limits.append(
        "Ranking quality is NDCG against logged choices; effects of showing lists are for replay or a test."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in limits)
