"""What every policy is asked: after this support, rank the catalogue. Warm and cold users apart, one form for both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.evaluation.cold_start import ColdCases
from recsys.evaluation.ranking import (
    QuerySets,
    hits,
    ndcg,
    recall,
    reciprocal_rank,
    reward_gains,
    weighted_ndcg,
)
from recsys.evaluation.served import ranked_lists
from recsys.evaluation.warm import WarmCases
from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import History
from recsys.policies.policy import ScoringPolicy
from recsys.types import FloatArray, IntArray

DEPTH = 100  # of the full ranking that MRR looks for the first hit in
CUTOFF = 10  # of NDCG
RECALL_CUTOFF = 20
PerUser = dict[str, FloatArray]  # metric -> (user,)


@dataclass(frozen=True)
class Question:
    """Users with what they did so far and what they did then; rows agree."""

    name: str  # "warm", or "cold@k" after k events
    support: tuple[History, ...]
    excluded: list[IntArray]
    query: QuerySets
    gain: FloatArray  # reward that each relevant item earned, (relevant item,)
    slices: dict[str, QuerySets]

    def __len__(self) -> int:
        return len(self.support)

    @property
    def kind(self) -> str:
        """Whose question it is: "warm" or "cold" users'."""
        return self.name.partition("@")[0]

    def marks(self, policy: ScoringPolicy) -> PerUser:
        """Return every metric of each user; slices hold the users of whom they ask something."""
        ranked = ranked_lists(policy.scores, self.support, self.excluded, DEPTH)
        hit = hits(ranked, self.query)
        sizes = self.query.sizes
        marks = {
            "ndcg@10": ndcg(hit[:, :CUTOFF], sizes),
            "recall@20": recall(hit[:, :RECALL_CUTOFF], sizes),
            "mrr": reciprocal_rank(hit),
            "weighted_ndcg@10": weighted_ndcg(ranked[:, :CUTOFF], self.query, self.gain),
        }
        for name, part in self.slices.items():
            marked = ndcg(hits(ranked[:, :CUTOFF], part), part.sizes)
            marks[f"{name} ndcg@10"] = marked[part.sizes > 0]
        return marks

    def mean_ndcg(self, policy: ScoringPolicy) -> float:
        """Return NDCG@10, mean over users."""
        ranked = ranked_lists(policy.scores, self.support, self.excluded, CUTOFF)
        return float(ndcg(hits(ranked, self.query), self.query.sizes).mean())


def cold_questions(log: PreparedLog, cases: ColdCases, shots: Sequence[int]) -> list[Question]:
    """Return one question per number of support events, all with the same query: what follows the largest."""
    if not len(cases):
        return []
    begin = log.history_offsets[cases.history] + np.array([len(history) for history in cases.first])
    gain = _gain(log, cases.query, np.stack([begin, log.history_offsets[cases.history + 1]], axis=1))
    slices = {"basket": cases.basket_completion, "next_session": cases.next_session}
    asked = {name: part for name, part in slices.items() if (part.sizes > 0).any()}
    return [
        Question(
            f"cold@{k}",
            tuple(history.first(k) for history in cases.first),
            cases.excluded,
            cases.query,
            gain,
            asked,
        )
        for k in shots
    ]


def warm_question(log: PreparedLog, cases: WarmCases) -> list[Question]:
    """Return the question that warm users pose, if there are any."""
    if not len(cases):
        return []
    gain = _gain(log, cases.query, cases.query_events)
    slices = {"next_session": cases.next_session} if (cases.next_session.sizes > 0).any() else {}
    return [Question("warm", cases.support, cases.excluded, cases.query, gain, slices)]


def _gain(log: PreparedLog, query: QuerySets, events: np.ndarray) -> FloatArray:
    lengths = events[:, 1] - events[:, 0]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    event = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(events[:, 0], lengths)
    return reward_gains(query, offsets, log.item[event], log.reward[event], len(log.content))
