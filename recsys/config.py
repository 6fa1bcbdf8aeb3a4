"""Frozen configuration of every stage: TOML in, fingerprint out.

A run's file holds one table per stage. Unknown keys and values out of bounds are refused with one line.
"""

import hashlib
import json
import tomllib
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from recsys.columns import IMPRESSION
from recsys.errors import UserError
from recsys.frozen import Frozen, Positive, PositiveFloat, Share
from recsys.loop_config import DriftConfig as DriftConfig
from recsys.loop_config import ImproveConfig as ImproveConfig
from recsys.refusals import refusal
from recsys.training_config import DistillConfig as DistillConfig
from recsys.training_config import FactorsConfig as FactorsConfig
from recsys.training_config import FinetuneConfig as FinetuneConfig
from recsys.training_config import MemoryConfig as MemoryConfig
from recsys.training_config import MetatrainConfig as MetatrainConfig
from recsys.training_config import PretrainConfig as PretrainConfig
from recsys.training_config import SupportPolicyName as SupportPolicyName
from recsys.training_config import TransferConfig as TransferConfig

Impressions = Literal["apart", "actions"]
Reward = Annotated[float, Field(ge=-1e6, le=1e6)]  # beyond, squares of returns leave single precision
BaselineKind = Literal["popularity", "item_knn", "vsknn", "ease", "als", "sequence"]
LogFormat = Literal["tables", "online-retail", "complete-journey", "movielens", "open-bandit", "file"]


class LogConfig(Frozen):
    """Which log is read and how much damage in it is tolerated."""

    format: LogFormat = "tables"
    path: Path
    mapping: Path | None = None  # TOML of columns, event types and session gap, for format "file"
    max_bad_share: Share = 0.01  # quarantined rows above this share abort
    batch_rows: Positive = 65_536  # rows held at once while streaming
    rows_per_bucket: Positive = 1_000_000  # rows sorted in memory at once


class SplitConfig(Frozen):
    """Where training ends and who counts as cold.

    kind "time": cold test users are those first seen at or after `test_from` (or after the `test_share`
    newest events); cold validation users are those first seen in the window before it that holds
    `validation_share` of the training users. Kind "users": both groups are drawn by hash. No event of a cold
    user is ever trained on.
    """

    kind: Literal["time", "users"] = "time"
    test_from: datetime | None = None
    test_share: Share = 0.2
    validation_share: Share = 0.1


class RewardConfig(Frozen):
    """Reward of an event: base[event_type] + per_log_value[event_type] · sign(value) · log(1 + |value|)."""

    base: dict[str, Reward] = Field(
        default_factory=lambda: {"impression": 0.0, "click": 0.2, "purchase": 1.0, "cancellation": -1.0}
    )
    per_log_value: dict[str, Reward] = Field(default_factory=dict)


class PrepareConfig(Frozen):
    """From a raw log to the tables and arrays that training reads."""

    log: LogConfig
    split: SplitConfig = SplitConfig()
    reward: RewardConfig = RewardConfig()
    content_features: Positive = 64  # width of the text and category embedding
    content_space: Literal["fitted", "shared"] = (
        "fitted"  # "shared": one space for all logs, so that bundles transfer
    )
    seed: int | None = (
        None  # of the users held out and of ties; none = the run's. Runs that share it share a split
    )
    impressions: Impressions = "apart"  # "actions": what was shown without response is in the histories too

    @model_validator(mode="after")
    def _actions_have_a_reward(self) -> "PrepareConfig":
        rewarded = {*self.reward.base, *self.reward.per_log_value}
        if self.impressions == "actions" and IMPRESSION not in rewarded:
            raise ValueError(
                f'prepare.impressions is "actions", but prepare.reward.base has no {IMPRESSION}, must hold what an '
                "impression without response is worth; add impression = 0.0"
            )
        return self


class StateConfig(Frozen):
    """How much of a history the ranker reads."""

    max_events: Positive = 50
    session_gap_minutes: PositiveFloat = (
        30.0  # a live event without a session starts a new one after this pause
    )


class ModelConfig(Frozen):
    """Shape of the teacher."""

    item_features: Positive = 64  # width of e_i
    hidden: Positive = 96  # width of the session encoder
    layers: Positive = 1
    encoder: Literal["recurrent", "attention"] = "recurrent"
    dropout: Share = 0.2
    id_dropout: Share = 0.1  # share of items shown to training by content alone


class IndexConfig(Frozen):
    """The candidate index over the item vectors."""

    kind: Literal["flat", "ivf", "ivf_sq8", "ivf_whitened", "hnsw", "auto"] = (
        "flat"  # "auto": what finds enough
    )
    min_recall: Share = 0.99  # of "auto", against exact search on the bundle's own vectors
    candidates: Positive = 200  # retrieved per request
    unseen: Literal["trained", "content"] = "trained"  # items without history: as they are, or as their likes
    ivf_cells: Positive = 256
    ivf_probes: Positive = 16
    hnsw_links: Positive = 32
    hnsw_ef: Positive = 256


class ExplorationConfig(Frozen):
    """How the served list is drawn (recsys/policies/exploration.py), in units of Q, or of a baseline's spread.

    "softmax" is another name of "plackett_luce".
    """

    kind: Literal["greedy", "epsilon", "plackett_luce", "thompson"] = "plackett_luce"
    temperature: PositiveFloat = 0.02  # of plackett_luce
    epsilon: Share = 0.05  # of epsilon and thompson: share of positions drawn uniformly from what is left
    samples: Annotated[int, Field(gt=0, le=256)] = (
        16  # of thompson: draws of the posterior that a list chooses from
    )
    diversity: Annotated[float, Field(ge=0.0)] = 0.0  # what an item loses that is like one above it

    @field_validator("kind", mode="before")
    @classmethod
    def _softmax_is_plackett_luce(cls, kind: object) -> object:
        return "plackett_luce" if kind == "softmax" else kind


class BaselineConfig(Frozen):
    """Which baseline `recsys baseline` makes a bundle of; `exploration.kind` says whether its lists are drawn.

    `options` are those of the kind (recsys/policies), with its defaults where none are given. `trials` settings are
    tried on validation users; with 0 the options are taken as they are. `temperature` is in units of what lies between
    the first and the tenth score of the list at hand.
    """

    kind: BaselineKind = "item_knn"
    options: dict[str, Any] = Field(default_factory=dict)
    trials: Annotated[int, Field(ge=0)] = 0
    temperature: PositiveFloat = 0.1


class EvaluateConfig(Frozen):
    """Evaluation of the served object on cold users."""

    shots: tuple[int, ...] = (0, 1, 3, 5, 10)  # support events; the query starts after the largest
    cutoff: Positive = 10  # of NDCG and recall
    max_users: Positive = 2_000
    bootstrap: Positive = 2_000
    confidence: Share = 0.95

    @field_validator("shots")
    @classmethod
    def _shots_ascend(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if not shots or shots[0] < 0 or shots[-1] == 0 or any(a >= b for a, b in pairwise(shots)):
            raise ValueError(
                f"evaluate.shots is {list(shots)}, must ascend from 0 or more, each once, to at least 1; "
                "write them as [0, 1, 3, 5, 10]"
            )
        return shots

    def validation_settings(self) -> dict[str, object]:
        """Return what steps that only look at validation users depend on."""
        return {"shots": self.shots, "cutoff": self.cutoff, "max_users": self.max_users}


class PublishConfig(Frozen):
    """Where bundles go, who they become, and how sound the Q-function must be (recsys/artifacts/health_gate.py)."""

    registry: Path = Path("registry")
    name: str = "metaq"
    alias: str = "champion"
    keep_training: bool = (
        True  # teacher and prepared log beside the version, so that training can go on from it
    )
    max_over_estimation: PositiveFloat = 2.0  # mean max-Q over mean logged return
    max_unsupported_argmax: Share = 0.1  # of next states
    max_calibration_error: PositiveFloat = 0.5  # over mean logged return; a Q of 0 everywhere is 1 off
    max_over_promise: PositiveFloat = 1.25  # mean max-Q over the policy's fitted value (pretrain.fqe_epochs)


class RunConfig(Frozen):
    """One whole run."""

    name: str
    seed: int = 7
    # of torch: a second gains a fifth on an idle machine and costs several times on a busy one
    threads: Positive = 1
    device: Literal["cpu", "cuda", "auto"] = "cpu"  # of training; auto = a GPU where there is one
    output: Path = Path("runs")
    prepare: PrepareConfig
    state: StateConfig = StateConfig()
    model: ModelConfig = ModelConfig()
    factors: FactorsConfig = FactorsConfig()
    memory: MemoryConfig = MemoryConfig()
    pretrain: PretrainConfig = PretrainConfig()
    metatrain: MetatrainConfig = MetatrainConfig()
    distill: DistillConfig = DistillConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    transfer: TransferConfig = TransferConfig()
    index: IndexConfig = IndexConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    publish: PublishConfig = PublishConfig()
    baseline: BaselineConfig = BaselineConfig()
    improve: ImproveConfig = ImproveConfig()

    @model_validator(mode="after")
    def _warm_up_fits(self) -> "RunConfig":
        if self.pretrain.warmup_epochs >= self.pretrain.epochs:
            raise ValueError(
                f"pretrain.warmup_epochs is {self.pretrain.warmup_epochs}, must be below pretrain.epochs "
                f"({self.pretrain.epochs}); lower the warm-up or raise the epochs"
            )
        return self

    @model_validator(mode="after")
    def _state_holds_the_support(self) -> "RunConfig":
        wanted = {
            "the largest of evaluate.shots": max(self.evaluate.shots),
            "metatrain.max_support": self.metatrain.max_support,
        }
        for name, events in wanted.items():
            if self.state.max_events < events:
                raise ValueError(
                    f"state.max_events is {self.state.max_events}, must be at least {name} ({events}); "
                    "raise it or lower the other"
                )
        return self


def read_toml(path: Path) -> dict[str, object]:
    """Read a TOML file as plain values; raises UserError, one line, if it is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"no config at {path} ({reason}); give --config one of pipelines/configs/*.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None


def validate_config(raw: dict[str, object], origin: str) -> RunConfig:
    """Check plain values; raises UserError, one line that begins with `origin`, at the first one refused."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{origin}: {refusal(error, RunConfig)}") from None


def load_config(path: Path) -> RunConfig:
    """Read a run's TOML.

    Raises UserError, one line, if the file is missing, is not TOML, or holds a key or value that is refused.
    """
    return validate_config(read_toml(path), str(path))


def fingerprint(*parts: object) -> str:
    """Return a short digest of JSON-able values and configs that changes when any of them does."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
