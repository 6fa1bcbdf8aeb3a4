"""Drives policies through logged requests: each sees the user's past at that moment and nothing else.

What comes out are lists as estimators read them (ope/slates.py), bucket by bucket. The reward model is fitted on other
users: q̂ of an item at a position is its mean reward there among users of other folds, shrunk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.evaluation.ope.slates import Slates
from recsys.evaluation.replay.attribution import attribute
from recsys.evaluation.replay.log import EventSource, RequestTable, requests_of
from recsys.evaluation.replay.model import ListModel
from recsys.evaluation.replay.past import Past
from recsys.evaluation.replay.policies import (
    EvaluationPolicy,
    FollowsCatalogue,
    KnowsItsLines,
    PolicyError,
    Request,
)
from recsys.evaluation.replay.tally import Tally, Vocabulary, count, note_first_shown
from recsys.logged_event import PER_SECOND
from recsys.policies.exploration import ListDistribution
from recsys.types import LongArray, RealArray

HISTORY_EVENTS = 200  # newest events that the endpoint reads by default
MOST_CELLS = 20  # attributes with more values make no cohorts: each cell has sums of its own


@dataclass(frozen=True)
class ReplayedLists:
    """One bucket of requests with what each policy would have done; first axis request."""

    slates: Mapping[str, Slates]
    time: LongArray  # microseconds
    events_used: LongArray  # of the user, before the request
    versions: list[str]
    recommendation: list[str]
    item: LongArray  # (request, position), code into the item vocabulary
    first_item_age_s: RealArray  # since the item was first shown in the log; NaN if that is now
    attributes: Mapping[str, Sequence[str]]  # of the users, by name; "unknown" where there is none
    session: LongArray  # the same number for the requests of one session
    # probability of what was shown by each policy as it stood in the line: with its variant's exploration, on the rung
    # of the ladder that answered; (request, position), of lists that the policy made
    recomputed: Mapping[str, RealArray]

    def __len__(self) -> int:
        return len(self.time)


def fit_list_model(
    source: EventSource, config: RewardConfig, window_s: float, vocabulary: Vocabulary, folds: int = 3
) -> ListModel:
    """Return the reward model of a log, from one pass over it."""
    model = ListModel(folds)
    for frame in source:
        codes = vocabulary.codes(frame[c.ITEM_ID])
        earned = attribute(frame, codes, config, window_s)
        requests = requests_of(frame, codes, need_propensity=False, source=source)
        model.learn(_clusters(requests.who), requests.item, _at(earned.reward, requests.row), requests.length)
        note_first_shown(vocabulary, requests)
    return model


def replay(
    source: EventSource,
    policies: Mapping[str, EvaluationPolicy],
    config: RewardConfig,
    window_s: float,
    vocabulary: Vocabulary,
    model: ListModel | None,
    tally: Tally,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    history_events: int = HISTORY_EVENTS,
    max_weight: float = np.inf,
    on_request: Callable[[], None] = lambda: None,
    propensities: Callable[[RequestTable], RealArray] | None = None,
) -> Iterator[ReplayedLists]:
    """Yield the lists of each bucket of users; `propensities` replaces those of logs that have none."""
    for frame in source:
        codes = vocabulary.codes(frame[c.ITEM_ID])
        earned = attribute(frame, codes, config, window_s)
        requests = requests_of(frame, codes, need_propensity=propensities is None, source=source)
        count(tally, frame, requests, earned)
        if not len(requests):
            continue
        logged = requests.propensity if propensities is None else propensities(requests)
        users = Past(frame, earned, attributes or {}, history_events)
        made = _asked(requests, policies, users, vocabulary, model, on_request)
        cluster = _clusters(requests.who)
        yield ReplayedLists(
            {
                name: Slates(
                    _at(earned.reward, requests.row),
                    logged,
                    answers.chosen,
                    requests.length,
                    answers.q_logged if model else None,
                    answers.value if model else None,
                    cluster,
                    max_weight,
                )
                for name, answers in made.items()
            },
            requests.time,
            users.known_before(requests),
            requests.version,
            requests.recommendation,
            requests.item,
            _ages(vocabulary, requests),
            _attributes_of(requests.who, attributes or {}),
            requests.session,
            {name: answers.recomputed for name, answers in made.items()},
        )


@dataclass(frozen=True)
class _Answers:
    chosen: RealArray  # (request, position)
    q_logged: RealArray
    value: RealArray
    recomputed: RealArray


def _asked(
    requests: RequestTable,
    policies: Mapping[str, EvaluationPolicy],
    users: Past,
    vocabulary: Vocabulary,
    model: ListModel | None,
    on_request: Callable[[], None],
) -> dict[str, _Answers]:
    """Ask every policy for its distribution at every request."""
    shape = requests.item.shape
    answers = {
        name: _Answers(np.ones(shape), np.zeros(shape), np.zeros(shape), np.ones(shape)) for name in policies
    }
    indices: dict[str, LongArray] = {}
    cluster = _clusters(requests.who)
    revision = np.array([0 if line is None else line.ask.revision for line in requests.line], np.int64)
    order = np.lexsort((requests.time, cluster, revision))  # the catalogue goes forward; users share nothing
    for row in order.tolist():  # a policy is asked one request at a time, as it is live
        length = int(requests.length[row])
        shown = requests.item[row, :length]
        q_table = None if model is None else model.table(int(cluster[row]), length)  # (position, item)
        for name, policy in policies.items():
            try:
                if isinstance(policy, FollowsCatalogue):
                    policy.at(int(revision[row]))
                if len(indices.get(name, ())) != len(policy.item_ids):
                    indices[name] = vocabulary.of_policy(policy)
                request = users.request(requests, row, impressions=policy.reads_impressions)
                codes, chances = _chances(policy.distribution(request), indices[name], shown)
            except UserError:
                raise
            except Exception as error:
                raise PolicyError(policy, requests.who[row]) from error
            into = answers[name]
            into.chosen[row, :length] = np.where(codes == shown[:, None], chances, 0.0).sum(axis=1)
            into.recomputed[row, :length] = into.chosen[row, :length]
            if (logged := _as_logged(policy, request, requests.version[row])) is not None:
                codes_then, then = _chances(logged, indices[name], shown)
                into.recomputed[row, :length] = np.where(codes_then == shown[:, None], then, 0.0).sum(axis=1)
            if q_table is not None:
                # an item that was never shown, or that the log does not know, reads the mean, kept last
                of_candidates = q_table[:, np.where(codes < q_table.shape[1] - 1, codes, -1)]
                into.value[row, :length] = (chances * of_candidates).sum(axis=1)
                into.q_logged[row, :length] = q_table[np.arange(length), shown]
        on_request()
    return answers


def _chances(
    distribution: ListDistribution, indices: LongArray, shown: LongArray
) -> tuple[LongArray, RealArray]:
    """Return the candidates' codes, (candidate,), and their chances given what was shown, (position, candidate)."""
    codes = indices[distribution.items]
    return codes, replace(distribution, items=codes.astype(np.int32)).given_above(shown)


def _as_logged(policy: EvaluationPolicy, request: Request, version: str) -> ListDistribution | None:
    """Return what a list was drawn from where the policy made it otherwise than it would now; else None."""
    if not isinstance(policy, KnowsItsLines) or version.split(" ")[0] != policy.version:
        return None
    return policy.as_logged(request)


def _at(values: RealArray, row: LongArray) -> RealArray:
    """Return values at rows, 0 where the row is −1."""
    return np.where(row >= 0, values[np.maximum(row, 0)], 0.0)


def _clusters(who: Sequence[str]) -> LongArray:
    """Return a number for each user that is the same in every bucket and run, (request,)."""
    if not who:
        return np.empty(0, np.int64)
    hashes = pd.util.hash_array(np.array(who, object))
    numbers: LongArray = (hashes >> np.uint64(1)).astype(np.int64)
    return numbers


def _ages(vocabulary: Vocabulary, requests: RequestTable) -> RealArray:
    """Return how long ago the first item of each list was first shown, in seconds; NaN without a first pass."""
    first = requests.item[:, 0]
    born = np.array([vocabulary.first_shown.get(item, -1) for item in first.tolist()], np.float64)
    age: RealArray = np.where(born >= 0, (requests.time - born) / PER_SECOND, np.nan)
    return age


def _attributes_of(who: Sequence[str], attributes: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return what is known of each request's user, by attribute with few values, (request,) each."""
    values: dict[str, set[str]] = {}
    for known in attributes.values():
        for name, value in known.items():
            values.setdefault(name, set()).add(value)
    names = sorted(name for name, different in values.items() if len(different) <= MOST_CELLS)
    return {name: [attributes.get(user, {}).get(name, "unknown") for user in who] for name in names}
