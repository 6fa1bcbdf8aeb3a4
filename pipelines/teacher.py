"""A teacher before its first update: its shape, what its items and its memory start from, its optimizer."""

from dataclasses import dataclass

import numpy as np
import torch

from pipelines.transferring import Warmth, warmth_for
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.learning.factors import ItemStatistics, item_statistics
from recsys.learning.memory import draw_folds, memory_factors
from recsys.learning.optimizer import optimizer_for
from recsys.learning.recency import recent_popularity
from recsys.learning.transfer import warm_start
from recsys.logs.interactions import interaction_matrix
from recsys.logs.prepared import PreparedLog
from recsys.models.q_network import NetworkShape, QNetwork
from recsys.randomness import derive_seed, numpy_generator
from recsys.types import FloatArray, LongArray


@dataclass(frozen=True)
class Start:
    """What teachers of a log start from: what the training histories say of the items, and what another log does."""

    log: PreparedLog
    histories: LongArray
    statistics: ItemStatistics
    popularity: FloatArray  # that biases start from
    warmth: Warmth | None

    @staticmethod
    def of(log: PreparedLog, histories: LongArray, config: RunConfig) -> "Start":
        """Count what the histories hold; raises UserError if the configured source cannot be used."""
        warmth = warmth_for(config, log)
        beside = None if warmth is None else warmth.rows(np.array(log.content), config)
        seed = derive_seed(config.seed, "factors")
        statistics = item_statistics(log, histories, config.factors, seed, beside)
        popularity = statistics.popularity
        if config.pretrain.half_life_days is not None:
            popularity = recent_popularity(log, histories, config.pretrain.half_life_days)
        if warmth is not None:
            popularity = warmth.popularity(popularity, config)
        return Start(log, histories, statistics, popularity, warmth)

    def network(self, config: RunConfig) -> tuple[QNetwork, LongArray | None]:
        """Return (a fresh teacher, the fold of each history, whose factors it must not read), by the config's seed."""
        network = teacher_for(self.log, config, self.statistics, self.popularity)
        return network, start_memory(network, self.log, self.histories, config, self.warmth)


def teacher_for(
    log: PreparedLog, config: RunConfig, statistics: ItemStatistics, popularity: FloatArray
) -> QNetwork:
    """Return a fresh teacher whose items start from content, co-occurrence and popularity, or from content alone.

    Raises UserError if it is to learn answers of which the log knows one alone.
    """
    if config.pretrain.response_weight > 0 and len(log.info.event_types) < 2:
        raise UserError(
            f"pretrain.response_weight is {config.pretrain.response_weight}, must be 0 where all events are of one "
            f"type ({', '.join(log.info.event_types)}): there is no answer to predict"
        )
    shape = NetworkShape(
        items=log.content.shape[0],
        content_features=log.content.shape[1],
        item_features=config.model.item_features,
        hidden=config.model.hidden,
        layers=config.model.layers,
        encoder=config.model.encoder,
        event_types=len(log.info.event_types),
        attribute_sizes=tuple(len(values) for values in log.info.user_attribute_values),
        max_events=config.state.max_events,
        dropout=config.model.dropout,
        id_dropout=config.model.id_dropout,
        dueling=config.pretrain.dueling,
        quantiles=config.pretrain.quantiles,
        memory_features=min(config.memory.features, log.content.shape[0]),
        responses=config.pretrain.response_weight > 0,
    )
    torch.manual_seed(derive_seed(config.seed, "teacher"))
    network = QNetwork(shape, config.pretrain.temperature)
    log_popularity = np.log1p(popularity)
    known = (statistics.popularity > 0).astype(np.float32)
    if config.pretrain.start == "content":
        network.start_from_content(np.array(log.content))
        network.tower.known.copy_(torch.from_numpy(known))
    else:
        factors = np.zeros((shape.items, shape.item_features), np.float32)
        if (
            not shape.memory_features
        ):  # else the memory says what goes together, and no history finds itself in it
            width = min(shape.item_features, statistics.factors.shape[1])
            factors[:, :width] = statistics.factors[:, :width]
        network.tower.start_from(np.array(log.content), factors, log_popularity, known)
    with torch.no_grad():
        network.behavior_bias.weight.copy_(torch.from_numpy(log_popularity)[:, None])
    return network


def start_warm(network: QNetwork, warmth: Warmth, log: PreparedLog) -> None:
    """Start from the source's network; raises UserError if it has another shape."""
    try:
        warm_start(network, warmth.source, warmth.carried, log.info.event_types)
    except ValueError as error:
        raise UserError(
            f"the source is another network ({error}); give model, memory.features and pretrain.dueling and .quantiles "
            "the values of its run"
        ) from None


def start_memory(
    network: QNetwork,
    log: PreparedLog,
    histories: LongArray,
    config: RunConfig,
    warmth: Warmth | None = None,  # what another log says of these items
) -> LongArray | None:
    """Start the memory from what goes together in the training histories; return their folds, (history,)."""
    if network.tower.memory is None or network.states.memory is None:
        return None
    network.states.memory.start_from(config.memory.start_scale, network.temperature, config.memory.doubt)
    fold = draw_folds(len(histories), config.memory.folds, numpy_generator(config.seed, "memory-folds"))
    matrix = interaction_matrix(log, histories)
    settings = config.memory.model_copy(update={"features": network.shape.memory_features})
    seed = derive_seed(config.seed, "memory-factors")
    if warmth is None:
        network.tower.remember(*memory_factors(matrix, fold, settings, seed))
    else:
        beside = warmth.rows(np.array(log.content), config)
        factors, by_fold = memory_factors(matrix, fold, settings, seed, beside, warmth.onto)
        loud = warmth.volume(np.asarray(matrix.sum(axis=0), np.float32).ravel(), config)[:, None]
        network.tower.remember(factors * loud, [each * loud for each in by_fold])
    return fold if config.memory.folds else None


def teacher_optimizer(network: QNetwork, config: RunConfig) -> torch.optim.AdamW:
    """Return AdamW whose rates are those of the config: factors of the memory move slowly, its scalars quickly."""
    return optimizer_for(
        network,
        config.pretrain.learning_rate,
        config.pretrain.weight_decay,
        tuned=[] if network.tower.memory is None else [network.tower.memory.weight],
        tuned_rate=config.memory.rate,
        quick=[] if network.states.memory is None else network.states.memory.scalars(),
        quick_rate=config.memory.scalar_rate,
    )
