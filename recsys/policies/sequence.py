"""Sequence models trained with cross-entropy only: GRU4Rec-style and SASRec-style.

They read the same tokens as the teacher through the same encoders, start, if told to, from the same co-occurrence
factors, and are stopped by the same kind of validation; what they lack is Q-learning. GRU4Rec: Hidasi & Karatzoglou
2018; SASRec: Kang & McAuley 2018. Windows are cut afresh at every epoch from histories whose events of one time are
shuffled over the whole history, so that a log without times is read as sets.
"""

from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
import torch

from recsys.config import FactorsConfig
from recsys.learning.factors import item_statistics
from recsys.learning.losses import NegativeSampler
from recsys.learning.optimizer import BestEpoch, optimizer_for, step
from recsys.logs.interactions import training_events
from recsys.logs.prepared import PreparedLog, identified
from recsys.mdp.state import StateBatch, lay_tokens
from recsys.mdp.windows import ATTRIBUTE_DROPOUT, attributes_of
from recsys.policies.sequence_loss import sequence_loss
from recsys.policies.sequence_model import SequenceModel, SequenceOptions
from recsys.policies.sequence_network import SequenceShape
from recsys.randomness import derive_seed, numpy_generator, torch_generator
from recsys.types import LongArray


class SequencePolicy(SequenceModel):
    """A sequence model that can be fitted; `judge`, if given, is asked after every epoch and the best one is kept."""

    epoch_: int  # the one whose weights were kept, from 0; of a fit, not of what is restored

    def __init__(
        self,
        options: SequenceOptions | None = None,
        judge: Callable[["SequencePolicy", int], float] | None = None,
    ) -> None:
        super().__init__(options)
        self.judge = judge

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Train on the training events; without a judge for all epochs."""
        options = self.options
        chosen = identified(log, histories) if options.identified_only else histories
        self._table = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(options.seed, "sequence"))  # initial weights and dropout
            self._train(log, chosen)
        return self

    def _train(self, log: PreparedLog, histories: LongArray) -> None:
        options = self.options
        config = FactorsConfig(features=options.features)
        statistics = item_statistics(log, histories, config, derive_seed(options.seed, "factors"))
        self.network_ = network = self._fresh(
            SequenceShape(
                items=len(log.content),
                content_features=log.content.shape[1],
                event_types=len(log.info.event_types),
                attribute_sizes=tuple(len(values) for values in log.info.user_attribute_values),
            )
        )
        known = (statistics.popularity > 0).astype(np.float32)
        factors = statistics.factors
        if not options.from_factors:
            factors = np.zeros_like(factors) + network.tower.id_embedding.weight.detach().numpy()
        network.tower.start_from(np.array(log.content), factors, np.log1p(statistics.popularity), known)
        sampler = NegativeSampler.from_popularity(statistics.popularity)
        optimizer = optimizer_for(network, options.learning_rate, options.weight_decay)
        generator = torch_generator(options.seed, "sequence-negatives")
        chance = numpy_generator(options.seed, "sequence-windows")
        best = BestEpoch(options.patience)
        epoch = -1
        for epoch in range(options.epochs):
            network.train()
            for batch in window_batches(log, histories, options.max_events, options.batch_size, chance):
                loss = sequence_loss(
                    network, batch, sampler, options.negatives, options.horizon, generator, chance
                )
                step(optimizer, loss, rate_factor=1.0 - epoch / options.epochs)
            network.eval()
            if self.judge is not None and best.offer(self.judge(self, epoch), [network], epoch):
                break
        network.eval()
        self.epoch_ = epoch if best.epoch < 0 else best.epoch
        if best.weights:
            best.restore([network])


def window_batches(
    log: PreparedLog, histories: LongArray, max_events: int, batch_size: int, chance: np.random.Generator
) -> Iterator[StateBatch]:
    """Yield the training events once, in windows of at least two events whose edges are drawn, shuffled."""
    row, event = training_events(log, histories)
    # events of one time are shuffled over the whole history, before it is cut into windows
    order = np.lexsort((chance.random(len(event)), log.session[event], log.timestamp[event], row))
    event = event[order]
    length = log.history_train_end[histories]
    begin = np.cumsum(length) - length
    shift = np.where(length > max_events, chance.integers(0, max_events, len(histories)), 0)
    place = np.arange(len(event)) - begin[row] + shift[row]
    starts = np.flatnonzero((place % max_events == 0) | (np.arange(len(event)) == begin[row]))
    ends = np.append(starts[1:], len(event))
    kept = ends - starts >= 2
    starts, ends = starts[kept], ends[kept]
    owner = histories[row[starts]] if len(starts) else np.empty(0, np.int64)
    shuffled = chance.permutation(len(starts))
    # windows of similar length share a batch, so that little of it is padding
    shuffled = shuffled[np.argsort((ends - starts)[shuffled] // 8, kind="stable")]
    for first in chance.permutation(np.arange(0, len(shuffled), batch_size)):
        chosen = shuffled[first : first + batch_size]
        lengths = ends[chosen] - starts[chosen]
        offset = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        events = event[offset + np.repeat(starts[chosen], lengths)]
        attributes = attributes_of(log, owner[chosen])
        attributes[chance.random(attributes.shape) < ATTRIBUTE_DROPOUT] = 0
        yield lay_tokens(
            item=log.item[events],
            event_type=log.event_type[events],
            reward=log.reward[events],
            timestamp=log.timestamp[events],
            session=log.session[events],
            lengths=lengths,
            attributes=attributes,
        )
