"""Settings of the loop: how a challenger is made, what it must show, what counts as drift."""

from typing import Annotated, Literal

from pydantic import Field

from recsys.frozen import Frozen, Positive, PositiveFloat, Share


class DriftConfig(Frozen):
    """When the traffic of now differs from that of before by enough to say so.

    A measure has drifted if it moved by more than its bound and chance alone would hardly have moved it at all.
    """

    window_hours: PositiveFloat = 168.0  # now: up to the newest list
    reference_hours: PositiveFloat = 672.0  # before: the time up to where now begins
    min_lists: Positive = 200  # in each window
    item_mix: PositiveFloat = 0.25  # stability index of what users take, beyond chance
    reward_rate: PositiveFloat = 0.1  # change of the mean reward of a list, as a share of it
    cold_share: PositiveFloat = 0.1  # change of the share of lists for users without an event
    overlap: PositiveFloat = 0.25  # of what is shown: overlap lost beyond chance
    propensity: PositiveFloat = 0.5  # change of the mean log10 propensity: decades
    resamples: Positive = 200


class ImproveConfig(Frozen):
    """`recsys improve`: where challengers come from and what one must show to become the champion."""

    how: Literal["finetune", "retrain", "baseline"] = "finetune"  # go on from the champion, or begin anew
    finetune: tuple[str, ...] = ()  # settings of fine-tuning, as --set: ["finetune.replay_share=0.5"]
    with_base: bool = True  # what begins anew trains on the run's own log too, not on the traffic alone
    when: Literal["always", "drift"] = "always"  # or only if the traffic has drifted
    min_new_lists: Positive = 500  # since the last round; fewer are waited for
    holdout_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3  # of the new lists, the latest: replayed
    settle_minutes: Annotated[float, Field(ge=0.0)] = 0.0  # lists younger than this still wait for responses
    margin: Share = (
        0.0  # what the lower bound of the difference must exceed, as a share of the champion's value
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    assume: Literal["cascade", "whole", "independent"] = "cascade"
    horizon: Literal["list", "session"] = (
        "list"  # whose reward is compared; sessions see satiation, and need more lists
    )
    window_hours: PositiveFloat = 24.0  # a response counts for a list for so long
    include_seen: bool = False  # the endpoint's callers let users see again what they have had
    self_test: bool = True
    max_p95_ms: PositiveFloat = 50.0  # of ranking one list, on this machine
    max_latency_ratio: PositiveFloat | None = None  # of the median, over the champion's in the same replay
    max_bundle_mb: PositiveFloat = 2_048.0
    canary_when: Literal["passed", "unsure"] = (
        "passed"  # or also what these logs cannot say of, within the limits
    )
    canary_hours: PositiveFloat = 168.0  # a canary that is undecided after so long ends
    canary_min_lists: Positive = 500  # of the challenger, before it is judged
    drift: DriftConfig = DriftConfig()
