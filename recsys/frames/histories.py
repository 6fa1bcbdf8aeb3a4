"""Histories and lists in words: what the ranker reads of a user, and what it answers."""

import numpy as np
import pandas as pd

from recsys.catalogue import Catalogue
from recsys.live_catalogue import LiveCatalogue
from recsys.mdp.state import History, encode_states
from recsys.recommender import Recommendation


def describe_history(
    history: History, catalogue: Catalogue | LiveCatalogue, event_types: tuple[str, ...], max_events: int
) -> pd.DataFrame:
    """Return the tokens of a state, oldest first: item_id, title, event_type, reward, hours_since_last, new_session."""
    kept = history.last(max_events)
    tokens = encode_states([kept], max_events)
    return pd.DataFrame(
        {
            "item_id": [catalogue.item_ids[item] for item in kept.item],
            "title": [catalogue.titles[item] for item in kept.item],
            "event_type": [event_types[code] for code in kept.event_type],
            "reward": kept.reward,
            "hours_since_last": np.expm1(tokens.log_gap[0, : len(kept)].numpy()),
            "new_session": tokens.new_session[0, : len(kept)].numpy().astype(bool),
        }
    )


def describe_list(given: Recommendation, catalogue: Catalogue | LiveCatalogue) -> pd.DataFrame:
    """Return a recommended list by position: item_id, title, score, propensity."""
    return pd.DataFrame(
        {
            "item_id": [catalogue.item_ids[item] for item in given.items],
            "title": [catalogue.titles[item] for item in given.items],
            "score": given.scores,
            "propensity": given.propensities,
        }
    ).rename_axis("position")
