"""Settings of the stages that learn: pretrain, what starts it, metatrain, distill."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from recsys.frozen import Frozen, Positive, PositiveFloat, Share

SupportPolicyName = Literal["random", "popular", "item_knn"]


class PriorityConfig(Frozen):
    """Prioritized replay of windows: PriorityRule (recsys/mdp/priorities.py), annealed over the whole run."""

    alpha: Share = 0.6  # 0 = uniform
    beta: Share = 0.4  # at the first draw; 1 at the last
    epsilon: PositiveFloat = 1e-3  # of a TD error of 0
    sequence_mix: Share = 0.9  # of the largest error of a window; the rest is the mean's


class PretrainConfig(Frozen):
    """Q-learning: over logged sessions (the ranker), or over transitions between state vectors."""

    epochs: Positive = 6
    warmup_epochs: int = Field(default=2, ge=0)  # supervised head only
    batch_size: Positive = 64  # histories
    learning_rate: PositiveFloat = 2e-3
    weight_decay: float = Field(default=1e-4, ge=0)
    max_gradient_norm: PositiveFloat | None = 1.0  # none = no clipping
    negatives: Positive = 512  # shared by the batch
    discount: float = Field(default=0.5, ge=0.0, lt=1.0)
    discount_hours: PositiveFloat | None = None  # discount is per so many hours; none = per event
    n_step: Positive = 3
    terminal: Literal["never", "session", "history"] = "never"  # what the log shows to be over; else cut
    target: Literal["sarsa", "supported_max", "max"] = "supported_max"
    double: bool = True  # the online network chooses what the target network values
    truncated_sarsa: Literal["return_head", "expected"] = "return_head"  # where the log holds no next action
    clip_targets: bool = True  # to the returns that the rewards of the log allow
    support_threshold: Share = 0.1  # behaviour probability over the most likely action's
    supervised_weight: float = Field(default=1.0, ge=0)  # of the behaviour head; 0 = none is learnt
    conservative_weight: float = Field(default=1.0, ge=0)
    temperature: PositiveFloat = 0.1  # of Q as a logit
    td_weight: float = Field(default=1.0, ge=0)
    td_loss: Literal["huber", "mse"] = "huber"
    huber_threshold: PositiveFloat = 1.0  # where the squared loss turns linear
    return_weight: float = Field(default=1.0, ge=0)  # of the return head; 0 = none is learnt
    response_weight: float = Field(default=0.0, ge=0)  # of how a shown item is answered; 0 = none is learnt
    dueling: bool = True  # Q has a value of the state beside the inner product
    quantiles: Positive = 1  # of the return's distribution; 1 = its mean alone
    identified_only: bool = True  # anonymous sessions do not train if there are identified users
    hindsight: Share = 0.5  # share of supervised examples that ask an earlier state for what came later
    half_life_days: PositiveFloat | None = (
        None  # a stretch of history this old counts half; none: age is no matter
    )
    history_power: Share = 0.0  # windows of a history of n events weigh n^-power beside others of their batch
    new_task_share: Share = 0.15  # of training histories, kept for metatrain: what pretraining has not seen
    replay: Literal["uniform", "prioritized"] = "uniform"  # every window once, or drawn by TD error
    priority: PriorityConfig = PriorityConfig()  # of prioritized replay
    bootstrap_candidates: Positive = 20  # top-C of the target network at the next state
    target_tau: Share = 0.01  # the target network's move towards the online one; 1 = a hard copy
    target_interval: Positive = 1  # updates from one move to the next
    final_target_tau: Share | None = None  # reached linearly after target_anneal_updates; none = no change
    final_target_interval: Positive | None = None  # likewise
    target_anneal_updates: int = Field(default=0, ge=0)
    patience: Positive = 3
    start: Literal["interactions", "content"] = (
        "interactions"  # of items: what goes together and how often; "content": what they are, for values alone
    )
    keep: Literal["best_epoch", "target_network"] = (
        "best_epoch"  # by how it ranks for validation users; "target_network": as it is after the last epoch
    )

    fqe_epochs: int = Field(default=0, ge=0)  # of fitted Q evaluation of what was learnt; 0 = none

    @model_validator(mode="after")
    def _what_targets_need_is_learnt(self) -> "PretrainConfig":
        if self.warmup_epochs > 0 and self.supervised_weight == 0 and self.conservative_weight == 0:
            raise ValueError(
                f"pretrain.warmup_epochs is {self.warmup_epochs}, must be 0 where supervised_weight and "
                "conservative_weight are 0: there is nothing to warm up; set it so or raise a weight"
            )
        if self.target == "supported_max" and self.supervised_weight == 0:
            raise ValueError(
                "pretrain.supervised_weight is 0, must be above 0 for target supported_max, which asks the "
                "behaviour head what the log supports; raise it or take target max or sarsa"
            )
        needed = "supervised_weight" if self.truncated_sarsa == "expected" else "return_weight"
        if self.target == "sarsa" and getattr(self, needed) == 0:
            raise ValueError(
                f"pretrain.{needed} is 0, must be above 0 for target sarsa with truncated_sarsa "
                f"{self.truncated_sarsa}; raise it or change truncated_sarsa"
            )
        return self

    @model_validator(mode="after")
    def _what_is_evaluated_gets_beyond_the_warmup(self) -> "PretrainConfig":
        if 0 < self.fqe_epochs <= self.warmup_epochs:
            raise ValueError(
                f"pretrain.fqe_epochs is {self.fqe_epochs}, must be 0 or above warmup_epochs "
                f"({self.warmup_epochs}), which learn no values; raise it or set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _a_schedule_has_a_length(self) -> "PretrainConfig":
        moves = self.final_target_tau is not None or self.final_target_interval is not None
        if moves != (self.target_anneal_updates > 0):
            raise ValueError(
                f"pretrain.target_anneal_updates is {self.target_anneal_updates}, must be above 0 exactly where "
                "final_target_tau or final_target_interval is given; set both or neither"
            )
        return self


class FactorsConfig(Frozen):
    """Co-occurrence factors: X' = D_history^-history_power X D_item^-item_power, truncated; or shrunk overlaps."""

    features: Positive = 256
    history_power: Share = 0.25
    item_power: Share = 0.5
    smoothing: float = Field(default=10.0, ge=0)  # added to an item's degree
    shrinkage: float = Field(default=0.0, ge=0)  # histories that a pair's overlap must outweigh; 0: none
    spectrum_power: Share = 0.5  # of the eigenvalues; 1 = the similarity itself, less evens them out


class MemoryConfig(Frozen):
    """What goes together, read out by the teacher's state (recsys/models/history_memory.py)."""

    features: int = Field(default=512, ge=0)  # 0 = no memory
    history_power: Share = 0.25  # as in FactorsConfig
    item_power: Share = 0.6
    smoothing: float = Field(default=3.0, ge=0)
    shrinkage: float = Field(default=0.0, ge=0)
    spectrum_power: Share = 0.5
    folds: int = Field(default=5, ge=0)  # of histories; each trains on the factors of the others; 0 = on all
    start_scale: PositiveFloat = 4.0  # of the readout when training starts, in logits
    doubt: float = Field(default=0.0, ge=0)  # κ that training starts from; 0 = one event is trusted fully
    rate: float = Field(default=0.1, ge=0)  # learning rate of the factors over pretrain.learning_rate
    scalar_rate: PositiveFloat = 1.0  # of trust, forgetting, powers, noise and doubt, likewise

    def factors(self) -> FactorsConfig:
        """Return the settings of the factors that the memory starts from."""
        return FactorsConfig(
            features=self.features,
            history_power=self.history_power,
            item_power=self.item_power,
            smoothing=self.smoothing,
            shrinkage=self.shrinkage,
            spectrum_power=self.spectrum_power,
        )


class MetatrainConfig(Frozen):
    """The outer loop: learn to adapt to new users, forget nothing about old ones."""

    epochs: int = Field(default=5, ge=0)  # 0 = the teacher as pretrained
    batch_size: Positive = 64  # users
    learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(default=1e-4, ge=0)
    starts: Literal["histories", "sessions"] = "histories"  # where the support of a task may begin
    max_support: Positive = 20
    other_policies: tuple[SupportPolicyName, ...] = (
        "random",
        "popular",
        "item_knn",
    )  # that supports are resampled for
    other_share: Share = 0.0  # of supports; 0 = the log's own first events alone
    min_task_events: int = Field(default=6, ge=2)  # one to adapt to, one to ask for
    initial_gain: float = 1.0
    initial_scale: float = Field(
        default=0.3, ge=0
    )  # of evidence; the memory has said most of it already; 0 = the head starts silent
    initial_noise: PositiveFloat = 1.0
    n_step: Positive = 1  # of the returns that are evidence
    weak_negatives: float = Field(
        default=1.0, ge=0
    )  # α that training starts from; 0 = only events are evidence
    amortised_features: int = Field(
        default=32, ge=0
    )  # of the encoder that says where a user starts; 0 = none
    temperature: PositiveFloat = 0.06  # of Q_u in the policy whose next draw is judged
    max_query: Positive = 500  # events after the support that its query is read from
    negatives: Positive = 2048
    old_task_weight: float = Field(default=1.0, ge=0)
    old_states: Positive = 512  # replayed per step
    old_rivals: Literal["all", "spared"] = (
        "all"  # spared: a user's other items are none; where order says nothing
    )
    distill_weight: float = Field(default=4.0, ge=0)  # in old tasks, of what the teacher said before
    network_rate: float = Field(
        default=0.1, ge=0
    )  # learning rate of the teacher's network over learning_rate
    scalar_rate: PositiveFloat = 10.0  # of precision, noise and gains, likewise
    map_rate: float = Field(default=0.1, ge=0)  # of the prior mean and the correction of features, likewise
    refit_factors: bool = True  # from new tasks too, once they have taught the prior
    patience: Positive = 3


Part = Literal["vectors", "content", "memory", "encoder", "heads"]  # recsys/learning/freezing.py


class FinetuneConfig(Frozen):
    """Going on from a bundle with what has happened since."""

    epochs: Positive = 1  # over the windows that hold new events
    learning_rate: PositiveFloat = 1e-3
    bias_rate: float = Field(default=1.0, ge=0)  # learning rate of item biases over learning_rate
    replay_share: float = Field(default=0.3, ge=0, lt=1)  # of an epoch's windows that hold old events only
    frozen: tuple[Part, ...] = ("vectors", "memory")  # "vectors" are those of known items: new ones learn
    frozen_epochs: Positive | None = None  # then everything learns; none = to the end
    distill_epochs: Positive = 1
    distill_rate: PositiveFloat = 2e-3  # learning rate of the student
    test_share: Share = (
        0.2  # newest new events that only `evaluate` sees, where the log is split by time; 0 = none
    )
    validation_share: Share = 0.1  # of users first seen since the bundle's cut, the newest, likewise


class TransferConfig(Frozen):
    """Warm start from a run on another log (recsys/learning/transfer.py); `source` none = from nothing."""

    source: Path | None = None  # folder with that run's steps, or of a version's training state
    match: Literal["ids", "titles", "nothing"] = (
        "ids"  # which items are the same in both; "titles": with their year
    )
    prior_histories: float = Field(default=50.0, ge=0)  # that the source's item knowledge counts as
    content_histories: float = Field(default=20.0, ge=0)  # that likeness of content counts as
    half_trusted: float = Field(
        default=5.0, ge=0
    )  # histories with an item at which its memory speaks at half volume
    frozen: tuple[Part, ...] = ("content", "encoder")
    frozen_epochs: int = Field(default=1, ge=0)  # of pretrain; then everything learns


class DistillConfig(Frozen):
    """A small student that ranks and adapts as the teacher does."""

    encoder: Literal["gated", "recurrent", "attention"] = "gated"
    hidden: Positive = 32
    dropout: Share = 0.0
    epochs: Positive = 3
    batch_size: Positive = 64
    learning_rate: PositiveFloat = 5e-3
    from_teacher: bool = True  # false: the control, which learns from the log alone
    ensemble: tuple[Path, ...] = ()  # folders of runs on the same log whose teachers teach beside this one's
    teacher_top: Positive = 50
    index_top: int = Field(default=25, ge=0)  # of the student's own best
    random_candidates: Positive = 200
    temperature: PositiveFloat = 0.1
    kl_weight: float = Field(default=1.0, ge=0)
    advantage_weight: float = Field(default=1.0, ge=0)
    next_item_weight: float = Field(default=0.0, ge=0)  # the hard label; a teacher knows better
    adapted_weight: float = Field(default=1.0, ge=0)
    prior_rate: float = Field(
        default=0.1, ge=0
    )  # learning rate of the student's adaptation prior over its network's
    patience: Positive = 3

    @model_validator(mode="after")
    def _somebody_teaches(self) -> "DistillConfig":
        if not self.from_teacher and self.next_item_weight == 0:
            raise ValueError(
                "distill.next_item_weight is 0, must be above 0 where distill.from_teacher is false: the log is all "
                "that such a student learns from; set it to 1"
            )
        return self
