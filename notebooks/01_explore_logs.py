# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · What is in a log?
#
# Before anything is learnt from a log, somebody has to look at it: how long are sessions, do a few items sell
# everything, how often must we recommend to somebody we hardly know, and which rows should nobody trust? This page
# asks that of the log that ships with the project: a year of invoices of a British gift wholesaler (UCI Online
# Retail, CC BY 4.0).
#
# For a log of your own, change `LOG` to its folder (`recsys import` writes one) and run the page again.

# %%
import os
from pathlib import Path

import recsys
from recsys import plots
from recsys.frames.overview import activity, gini, popularity, quality, sessions, with_reward

SMOKE = os.environ.get("METAQ_NOTEBOOKS") == "smoke"  # the tests' setting: the same page on part of the log
LOG = Path("../data/online-retail")

events = with_reward(recsys.load_events(LOG))
items, users = recsys.load_items(LOG), recsys.load_users(LOG)
if SMOKE:
    events = events.head(60_000)
events.sample(5, random_state=7)[
    ["user_id", "session_id", "timestamp", "item_id", "event_type", "value", "reward"]
]

# %% [markdown]
# One row is one event: who, when, which item, what happened, and its `value`, here pounds. `reward` is what the
# learner is told an event is worth: 1 for a purchase, −1 for a cancellation. There are no impressions in this log. It
# says what was ordered, never what was shown, so it can train a ranker and cannot, by itself, judge one (page 4 is
# about that).

# %%
counts = events.groupby("event_type").agg(
    events=("item_id", "size"),
    users=("user_id", "nunique"),
    items=("item_id", "nunique"),
    pounds=("value", "sum"),
)
counts["mean_reward"] = events.groupby("event_type")["reward"].mean()
counts.round(2)

# %% [markdown]
# ## How long is a session, and when does a customer come back?
#
# A session is an invoice. Half of them have a dozen lines or more: these customers fill a basket, they do not click
# around. So the state after a few events of *one* visit already says a lot, and "the next item" mostly means the next
# line of the same basket. Visits lie weeks apart; the small hump at the left is a second invoice minutes after the
# first.

# %%
visits = sessions(events)
left, right = plots.panels(2)
plots.histogram(
    visits["events"], log=True, unit=" events", xlabel="events in a session", ylabel="sessions",
    title="Baskets, not clicks", ax=left,
)  # fmt: skip
ax = plots.histogram(
    visits["days_since_last"], log=True, unit=" days", xlabel="days since the visit before", ylabel="sessions",
    title="Customers come back after weeks", ax=right,
)  # fmt: skip

# %% [markdown]
# ## Do a few items sell everything?
#
# The more a catalogue is concentrated, the harder it is to beat a list of best sellers, and the less is ever learnt
# about the rest. A Gini coefficient of 0 would mean that all items sell alike, 1 that one item sells everything.

# %%
selling = popularity(events[events["event_type"] == "purchase"])
ax = plots.concentration(selling, noun="purchases", title=f"Gini coefficient {gini(selling['events']):.2f}")

# %%
selling.head(8).join(items[["title", "price"]])[["title", "price", "events", "users", "share"]].round(4)

# %% [markdown]
# ## How often do we face somebody we hardly know?
#
# This is the question the whole project hangs on. Each month brings new customers, and whoever is new has no history
# to learn from. Two ways to count it: customers per month, and visits by how many events we had seen of the customer
# when the visit began.

# %%
months = activity(events)
left, right = plots.panels(2, width=12.0)
plots.stacked(
    months, {"returning_users": "seen before", "new_users": "new this month"}, ylabel="customers with an event",
    title="Every month brings new customers", ax=left,
)  # fmt: skip
known = visits[visits["user_id"].notna()]
cold = known.assign(
    month=known["start"].dt.strftime("%Y-%m"),
    unknown=100.0 * (known["events_before"] == 0),
    hardly=100.0 * (known["events_before"] < 10),
)
by_month = cold.groupby("month")[["unknown", "hardly"]].mean().reset_index().melt("month", value_name="share")
by_month["month"] = by_month["month"].astype("category")
by_month["variable"] = by_month["variable"].map({"unknown": "no event yet", "hardly": "fewer than 10"})
ax = plots.lines(
    by_month, "month", "share", "variable", xlabel="", ylabel="visits (%)", title="Visits of people we hardly know",
    ax=right,
)  # fmt: skip

# %% [markdown]
# The first months overstate it: in December 2010 everybody is new because the log begins there (and December 2011 has
# nine days only). What remains from summer on is the honest figure for a running shop, and it does not go to zero.

# %%
settled = cold[cold["month"] >= "2011-06"] if not SMOKE else cold
print(
    f"visits of identified customers: {settled['unknown'].mean():.0f} % by somebody never seen before, "
    f"{settled['hardly'].mean():.0f} % by somebody with fewer than 10 events; "
    f"{known['user_id'].value_counts().eq(1).mean():.0%} of customers came once"
)

# %% [markdown]
# ## Does what sells change with the season?
#
# A split at random would let a model peek at Christmas. That is why training ends at a date (1 September 2011 in the
# default configuration) and only what comes after is asked.

# %%
weekly = events[events["event_type"] == "purchase"].copy()
weekly["week"] = weekly["timestamp"].dt.tz_localize(None).dt.to_period("W").dt.start_time
by_week = weekly.groupby("week").agg(events=("item_id", "size"), pounds=("value", "sum")).reset_index()
ax = plots.lines(
    by_week.iloc[1:-1], "week", "events", band=None, xlabel="week", ylabel="purchases",
    title="Purchases more than double towards Christmas",
)  # fmt: skip

# %% [markdown]
# ## What should nobody trust?
#
# Each line is a check with the number of events that it finds. Nothing here is mended in silence: `recsys prepare`
# puts refused rows into a quarantine file with the reason, and the datasheet beside the log says what was cleaned
# before.

# %%
checks = quality(events, items.index, users.index)
checks.assign(share=checks["share"].map("{:.2%}".format))

# %% [markdown]
# Three things to remember for the next pages.
#
# * A quarter of the events have no customer. They are whole days of a shop's till, not a person: good for popularity
#   and for what goes together, useless as a user to adapt to.
# * All lines of an invoice carry the same minute. The order inside a basket is unknown, so nothing may be concluded
#   from it.
# * Five orders have enormous values. Rewards here count events, not pounds, so a single order of 80,000 pieces cannot
#   teach the ranker anything by its size alone.
#
# **Answer.** A year of large baskets with a moderately concentrated catalogue, a strong season, and a steady share of
# visits by people we hardly know: enough to learn from, and a reason to adapt within a few events.
