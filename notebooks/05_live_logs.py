# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · What happened yesterday, and what did exploring cost?
#
# The endpoint keeps what it showed, with which probability, and what users then did. Nothing else has to be
# collected: the questions of a Monday morning are asked of that store. What was shown yesterday and what came of it?
# Does the place in the list decide? Which version does better? And the bill for exploration: what did it cost, what
# did we get for it?
#
# The page starts a real endpoint, runs an experiment with three variants on it and lets simulated visitors come for
# three days of their own clock, ending now. Reading works the same on a production store, through any open connection
# to SQLite or PostgreSQL.

# %%
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import recsys
from pipelines.endpoint import run_experiment, running_endpoint
from pipelines.shop import open_shop
from pipelines.visitors import Plan, visit
from recsys import plots
from recsys.config import ExplorationConfig
from recsys.evaluation.offline import ServedPolicy, evaluate_log, from_table
from recsys.evaluation.replay.comparison import ReplayOptions
from recsys.frames import evaluations
from recsys.frames.rates import between, rates
from recsys.frames.store import read_store, shown_items

SMOKE = os.environ.get("METAQ_NOTEBOOKS") == "smoke"  # the tests' setting: few visitors
RUNS = Path(os.environ.get("METAQ_NOTEBOOKS_RUNS", "../runs"))
NOW = datetime.now(UTC)
TINT = dict(zip(("calm", "curious", "adapted"), plots.PALETTE, strict=False))

shop = open_shop(RUNS / "shop", users=400 if SMOKE else 2_500)
STORE = RUNS / "shop" / "live" / f"logs-{NOW:%Y%m%d%H%M%S}.sqlite"
CALM = {"kind": "plackett_luce", "temperature": 0.1}
CURIOUS = {"kind": "plackett_luce", "temperature": 1.0}
VARIANTS = [
    {"name": "calm", "exploration": CALM},  # the champion, popularity, nearly always the same list
    {"name": "curious", "exploration": CURIOUS},  # the same model, exploring
    {"name": "adapted", "model": shop.adapted, "exploration": CALM},  # the challenger
]
with running_endpoint(STORE, shop.registry, alias="champion") as url:
    run_experiment(url, "monday", VARIANTS)
    visit(url, shop.world, Plan(90 if SMOKE else 1_500, days=3.0, end=NOW), np.random.default_rng(21))

# %% [markdown]
# ## One store, three tools
#
# `read_store` gives two Arrow tables: `events` (shown items and responses alike, in the columns of every log of this
# project) and `lists` (one row per answered request). Arrow counts them, DuckDB asks them in SQL by the names of the
# Python variables, pandas takes them without a detour. A copy as Parquet is one more line, and `recsys evaluate
# --log` reads it.

# %%
connection = sqlite3.connect(STORE)
tables = read_store(connection)
events, lists = tables.events, tables.lists
counted = pc.value_counts(events["event_type"]).to_pylist()
print({each["values"]: each["counts"] for each in counted})
duckdb.sql(
    "SELECT variant, model, count(*) AS lists, count(DISTINCT user_id) AS users FROM lists GROUP BY ALL ORDER BY ALL"
).df()

# %% [markdown]
# ## Yesterday
#
# Plain SQL is enough for the daily report.

# %%
yesterday = duckdb.sql("""
    WITH shown AS (SELECT * FROM events WHERE event_type = 'impression'),
         answers AS (
             SELECT recommendation_id, item_id,
                    max(event_type = 'click') AS clicked, max(event_type = 'purchase') AS bought
             FROM events WHERE event_type <> 'impression' GROUP BY ALL
         )
    SELECT split_part(variant, ':', 2) AS variant,
           count(*) AS shown,
           count(DISTINCT s.recommendation_id) AS lists,
           count(DISTINCT s.item_id) AS different_items,
           round(100 * avg(coalesce(clicked, false)::INT), 2) AS clicked_percent,
           round(100 * avg(coalesce(bought, false)::INT), 2) AS bought_percent
    FROM shown s JOIN lists USING (recommendation_id) LEFT JOIN answers a USING (recommendation_id, item_id)
    WHERE s.timestamp::DATE = (SELECT max(timestamp)::DATE - 1 FROM shown)
    GROUP BY ALL ORDER BY ALL
""").df()
yesterday.set_index("variant")

# %%
first_shown = duckdb.sql("""
    SELECT time_bucket(INTERVAL '6 hours', e.timestamp) AS hour,
           split_part(variant, ':', 2) AS variant, count(*) AS lists
    FROM events e JOIN lists USING (recommendation_id)
    WHERE event_type = 'impression' AND position = 0 GROUP BY ALL ORDER BY ALL
""").df()
ax = plots.lines(
    first_shown[first_shown["hour"] < first_shown["hour"].max()],
    "hour",
    "lists",
    "variant",
    band=None,
    colour=TINT,
    xlabel="time (UTC, visitors' clock)",
    ylabel="lists in six hours",
    title="Traffic",
)

# %% [markdown]
# ## Does the place in the list decide?
#
# For everything that needs to know whose merit a click is, use `shown_items`: it follows the same rule as replay
# evaluation. An item counts as shown when the visitor looked at it. Intervals take users, not rows, as units, because
# one visitor's clicks are not independent.

# %%
shown = shown_items(tables)
shown["variant"] = shown["variant"].str.split(":").str[1]
shown["response"] = 100.0 * shown["responded"]
by_place = rates(shown, "response", ["variant", "position"]).reset_index()
by_place["place"] = (by_place["position"].astype(int) + 1).astype("category")
ax = plots.lines(
    by_place,
    "place",
    by="variant",
    colour=TINT,
    xlabel="place in the list",
    ylabel="shown items with a response (%)",
    title="Conversion by place",
)

# %% [markdown]
# Places hardly differ, and that is two effects which cancel. Rankings put their best first, so conversion should
# fall. But whoever looks at the third place is a visitor who was not bored by the first two and left: survivors
# respond more. A conversion by place is therefore no statement about places; judging another ranking by it would be
# wrong, which is why replay evaluation works with propensities instead.

# %% [markdown]
# ## Which version does better?
#
# Per list, by what was known of the user. Users were assigned by a hash of their id, so variants differ by nothing
# else.

# %%
per_list = (
    shown.groupby(["recommendation_id", "user_id", "variant", "model", "support_events"], observed=True)[
        "reward"
    ]
    .sum()
    .reset_index()
)
per_list["known"] = pd.cut(per_list["support_events"], [-1, 0, 2, 1_000], labels=["0", "1 to 2", "3 or more"])
by_known = rates(per_list, "reward", ["known", "variant"]).reset_index()
ax = plots.lines(
    by_known,
    "known",
    by="variant",
    colour=TINT,
    xlabel="events known of the user",
    ylabel="reward per list (95 % interval)",
    title="Adaptation pays once something is known",
)

# %%
overall = rates(per_list, "reward", "variant")
rates(per_list, "reward", ["model", "variant"]).round(4)

# %% [markdown]
# With nothing known, the calm list of best sellers does well: it shows what suits everybody. From the first event on
# its best items have been had, and all it can do is to go on down the same list. The adapted one follows the user
# instead.

# %% [markdown]
# ## What did exploring cost?
#
# Calm and curious are the same model; only the temperature differs. The price is the difference of their reward per
# list. Beside it stands what exploring is meant to find: the difference between the challenger and the calm champion.

# %%
bill = pd.DataFrame(
    [
        {"label": "exploring: curious − calm", **between(overall, "curious", "calm")},
        {"label": "adapting: adapted − calm", **between(overall, "adapted", "calm")},
    ]
)
ax = plots.intervals(
    bill,
    "label",
    mark=0.0,
    xlabel="reward per list (95 % interval)",
    title="What each variant costs or brings",
)

# %% [markdown]
# ## And what did it buy?
#
# Evidence. First: how many items were looked at often enough to say anything about them? Second: how much is the log
# worth for a question about another policy, here the challenger? The effective sample size answers that: so many
# lists of the challenger's own would say as much.

# %%
often = shown.groupby(["variant", "item_id"]).size().rename("times").reset_index()
known_items = often[often["times"] >= 30].groupby("variant")["item_id"].nunique()


def evidence(variant: str) -> dict[str, object]:
    """Return what a variant's log is worth for the challenger, by replay (page 4)."""
    own = shown.loc[shown["variant"] == variant, "user_id"].unique()
    log = from_table(events.filter(pc.is_in(events["user_id"], pa.array(own))))
    served = recsys.load_recommender(shop.registry, "challenger")
    served.exploration = ExplorationConfig.model_validate(CALM)
    options = ReplayOptions(reward=served.reward, window_s=3_600.0)
    found = evaluate_log(
        log, ServedPolicy(served, "challenger"), None, options, attributes=tables.attributes, self_test=False
    ).evaluation
    gates = evaluations.gates(found).query("policy == 'challenger'").set_index("name")["value"]
    worth, count = (
        gates["effective sample size"],
        shown.loc[shown["variant"] == variant, "recommendation_id"].nunique(),
    )
    return {
        "lists": count,
        "items shown 30 times or more": int(known_items.get(variant, 0)),
        "effective lists of the challenger": round(worth),
        "per 1,000 lists": round(1_000 * worth / count),
        "is the challenger better than what was logged?": found.decision,
    }


pd.DataFrame({name: evidence(name) for name in ("calm", "curious")}).T

# %%
coverage = often.sort_values("times", ascending=False)
coverage["rank"] = coverage.groupby("variant").cumcount() + 1
ax = plots.lines(
    coverage,
    "rank",
    "times",
    "variant",
    band=None,
    colour=TINT,
    xlabel="items, most shown first",
    ylabel="times shown",
    title="Where attention went",
)
connection.close()

# %% [markdown]
# **Answer.** Yesterday is a query over the store. The adapted version earns more per list, most of all once something
# is known of a user. Exploring costs a little of the reward per list, so little that three days of this traffic can
# hardly measure it, and it buys what nothing else does: every item is known a little, and the log can say whether the
# next policy is better before anybody sees it, which the calm log cannot.
