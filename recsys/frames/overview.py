"""What is in a log: sessions, popularity, who is active and who is new, what looks wrong."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.mdp.reward import rewards

REWARD: Final = "reward"
COLD_EVENTS: Final = 10  # a user with fewer events before is still being got to know


def with_reward(events: pd.DataFrame, config: RewardConfig | None = None) -> pd.DataFrame:
    """Return the events with what each is worth to the learner in a column `reward`."""
    codes, names = pd.factorize(events[c.EVENT_TYPE])
    values = events[c.VALUE].to_numpy(np.float64, na_value=np.nan)
    return events.assign(
        **{REWARD: rewards(config or RewardConfig(), [str(n) for n in names], codes, values)}
    )


def sessions(events: pd.DataFrame) -> pd.DataFrame:
    """Return one row per session, oldest first: user_id, start, events, items, value, reward, minutes, and two more.

    `days_since_last` is the silence since the user's session before, empty for the first; `events_before` what was
    known of the user when it began. Raises UserError if no event names its session.
    """
    if events[c.SESSION_ID].isna().all():
        raise UserError("no event has a session_id; run `recsys prepare`, whose events are given sessions")
    rewarded = events if REWARD in events else with_reward(events)
    grouped = rewarded.groupby(c.SESSION_ID, sort=False)
    frame = grouped.agg(
        user_id=(c.USER_ID, "first"),
        start=(c.TIMESTAMP, "min"),
        end=(c.TIMESTAMP, "max"),
        events=(c.ITEM_ID, "size"),
        items=(c.ITEM_ID, "nunique"),
        value=(c.VALUE, "sum"),
        reward=(REWARD, "sum"),
    ).sort_values("start", kind="stable")
    before = frame.groupby(c.USER_ID)["end"].shift()
    frame["minutes"] = (frame["end"] - frame["start"]).dt.total_seconds() / 60.0
    frame["days_since_last"] = (frame["start"] - before).dt.total_seconds() / 86_400.0
    known = frame.groupby(c.USER_ID)["events"].cumsum() - frame["events"]
    frame["events_before"] = known.fillna(0).astype(np.int64)
    return frame.drop(columns="end")


def popularity(events: pd.DataFrame) -> pd.DataFrame:
    """Return one row per item, most events first: events, users, share of events, and the shares added up."""
    frame = events.groupby(c.ITEM_ID).agg(events=(c.ITEM_ID, "size"), users=(c.USER_ID, "nunique"))
    frame = frame.sort_values(["events", "users"], ascending=False, kind="stable")
    share = frame["events"] / frame["events"].sum()
    return frame.assign(share=share, cumulative=share.cumsum())


def gini(counts: npt.ArrayLike) -> float:
    """Return the Gini coefficient of counts: 0 = all alike, towards 1 = one has everything."""
    ascending = np.sort(np.asarray(counts, np.float64))
    total = ascending.sum()
    if not total:
        return float("nan")
    places = np.arange(1, len(ascending) + 1)
    return float((2.0 * (places * ascending).sum() / total - len(ascending) - 1.0) / len(ascending))


def activity(events: pd.DataFrame, period: str = "M") -> pd.DataFrame:
    """Return one row per period: active, new and returning users, and how many events were cold.

    An event is cold if its user had fewer than ten events before it: `cold_events` and, of them, `first_events`, with
    none before; `cold_share` is of all events of known users. Anonymous events are counted apart, in `anonymous`.
    """
    when = events[c.TIMESTAMP].dt.tz_localize(None).dt.to_period(period)
    ordered = pd.DataFrame(
        {"user": events[c.USER_ID], "period": when, "time": events[c.TIMESTAMP]}
    ).sort_values("time", kind="stable")
    known = ordered[ordered["user"].notna()]
    before = known.groupby("user").cumcount()
    first = known.groupby("user")["period"].transform("min")
    table = known.assign(
        cold=before < COLD_EVENTS, first=before == 0, is_new=first == known["period"]
    ).groupby("period")
    users = known.drop_duplicates(["user", "period"]).groupby("period")["user"].size()
    frame = pd.DataFrame(
        {
            "events": table.size(),
            "active_users": users,
            "new_users": table["first"].sum(),
            "cold_events": table["cold"].sum(),
        }
    )
    frame["returning_users"] = frame["active_users"] - frame["new_users"]
    frame["cold_share"] = frame["cold_events"] / frame["events"]
    anonymous = ordered[ordered["user"].isna()].groupby("period").size()
    frame["anonymous"] = anonymous.reindex(frame.index, fill_value=0)
    return frame


def quality(
    events: pd.DataFrame, items: Iterable[str] | None = None, users: Iterable[str] | None = None
) -> pd.DataFrame:
    """Return one row per check: how many events are affected, their share, and an example of one.

    `items` and `users` are the ids of the side tables; without them nothing is said of unknown ones.
    """
    feedback = events[events[c.EVENT_TYPE] != c.IMPRESSION]
    same = [c.USER_ID, c.ITEM_ID, c.TIMESTAMP, c.EVENT_TYPE]
    tied = events[events[c.USER_ID].notna()].duplicated([c.USER_ID, c.TIMESTAMP], keep=False)
    value = events[c.VALUE]
    checks: dict[str, pd.Series[bool]] = {
        "no user (anonymous)": events[c.USER_ID].isna(),
        "no session": events[c.SESSION_ID].isna(),
        "no value": value.isna(),
        "event id given twice": events[c.EVENT_ID].notna() & events[c.EVENT_ID].duplicated(),
        "same user, item, time and type": events[c.USER_ID].notna() & events.duplicated(same),
        "time shared with another event of the user": tied.reindex(events.index, fill_value=False),
        "value below 0": value < 0,
        "value above 1,000 times the median": value.abs() > 1000.0 * feedback[c.VALUE].abs().median(),
        "impression without propensity": (events[c.EVENT_TYPE] == c.IMPRESSION) & events[c.PROPENSITY].isna(),
    }
    if items is not None:
        checks["item not in the item table"] = ~events[c.ITEM_ID].isin(list(items))
    if users is not None:
        checks["user not in the user table"] = events[c.USER_ID].notna() & ~events[c.USER_ID].isin(
            list(users)
        )
    rows = []
    for check, mask in checks.items():
        found = events.index[mask]
        example = "" if not len(found) else str(events.at[found[0], c.EVENT_ID])
        rows.append((check, len(found), len(found) / max(len(events), 1), example))
    return pd.DataFrame(rows, columns=["check", "events", "share", "example"]).set_index("check")
