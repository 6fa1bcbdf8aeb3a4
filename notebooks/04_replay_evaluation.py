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
# # 4 · May this policy go live?
#
# A popularity list is live and explores a little. A bundle that adapts to each user has been trained. Before anybody
# sees it, we ask yesterday's traffic: what would these lists have earned? And above all: may this log answer that at
# all?
#
# The traffic is real in the sense that counts: an endpoint runs as a process, simulated visitors ask it for lists
# over HTTP, look at them from the top and click or buy, and everything is read back from the endpoint's own store.
# They come from a world with known rules, so at the end the challenger goes live on new visitors and we see whether
# replay was right. `docs/replay_evaluation.md` is the reference for every figure below.

# %%
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

import recsys
from pipelines.endpoint import run_experiment, running_endpoint
from pipelines.shop import open_shop
from pipelines.visitors import Plan, visit
from recsys import plots
from recsys.config import ExplorationConfig
from recsys.evaluation.offline import ServedPolicy, evaluate_log, from_store, from_table
from recsys.evaluation.replay.comparison import ReplayOptions
from recsys.frames import evaluations
from recsys.frames.rates import rates
from recsys.frames.store import read_store, shown_items

SMOKE = os.environ.get("METAQ_NOTEBOOKS") == "smoke"  # the tests' setting: few visitors
RUNS = Path(os.environ.get("METAQ_NOTEBOOKS_RUNS", "../runs"))
VISITORS, LATER, LENGTH = (60, 30, 3) if SMOKE else (1_000, 500, 3)
NOW = datetime.now(UTC)
pd.options.display.max_colwidth = 160

shop = open_shop(RUNS / "shop", users=400 if SMOKE else 2_500)
STORE = RUNS / "shop" / "live" / f"replay-{NOW:%Y%m%d%H%M%S}.sqlite"
EXPLORING = {
    "kind": "plackett_luce",
    "temperature": 1.0,
}  # of popularity, in units of what lies between place 1 and 10

with running_endpoint(STORE, shop.registry, alias="champion") as url:
    run_experiment(url, "launch", [{"name": "explore", "exploration": EXPLORING}])
    traffic = visit(url, shop.world, Plan(VISITORS, days=3.0, end=NOW, n=LENGTH), np.random.default_rng(11))
traffic[["user_id", "timestamp", "model", "policy", "support_events", "seen", "reward"]].sample(
    4, random_state=1
)

# %% [markdown]
# ## What was logged
#
# One row above is one list. A visitor who is bored leaves in the middle of a list, so lists are `seen` to different
# depths; what was not seen is no evidence. The store knows for each shown item the probability with which it was
# drawn, and that is what makes the rest of this page possible. An even draw from 60 items would be 0.017: the
# champion prefers what is popular, and gives everything a chance.

# %%
connection = sqlite3.connect(STORE)
tables = read_store(connection)
shown = shown_items(tables)
first = shown[shown["position"] == 0]
ax = plots.histogram(
    first["propensity"], log=True, xlabel="propensity of the first item", ylabel="lists",
    title=f"{len(first):,} lists, {len(shown):,} shown items",
)  # fmt: skip

# %% [markdown]
# ## The question, asked too boldly
#
# The challenger as it was trained hardly explores: its lists are nearly deterministic. Both policies are asked for
# each logged request again, in time order, knowing only what the user had done by then.

# %%
REWARDS = recsys.load_bundle(shop.registry, "challenger").info.reward
OPTIONS = ReplayOptions(reward=REWARDS, window_s=3_600.0)


def policy(alias: str, name: str, **exploration: object) -> ServedPolicy:
    """Return a version as it would be served, exploring as given."""
    served = recsys.load_recommender(shop.registry, alias)
    served.exploration = ExplorationConfig.model_validate(exploration)
    return ServedPolicy(served, name)


def replay(challenger: ServedPolicy, *, self_test: bool = False):
    """Return the evaluation of a challenger against the champion on the log."""
    champion = policy("champion", "popular", **EXPLORING)
    log = from_store(connection)
    report = evaluate_log(
        log, challenger, champion, OPTIONS, attributes=tables.attributes, self_test=self_test
    )
    return report.evaluation


bold = replay(policy("challenger", "bold", temperature=0.02))
print(bold.sentence)

# %% [markdown]
# A refusal is a result. Each list of the log is weighted by how much likelier the challenger is to show it. Most
# weights are near 0 and few are large: the log is worth only so many of the challenger's own lists (the effective
# sample size), and where the mean weight is not 1, the challenger wants to show what the champion practically never
# did.

# %%
left, right = plots.panels(2)
plots.weights(*bold.weights["bold"], title="Bold: weights of the lists", ax=left)
gates = evaluations.gates(bold)
asked = gates[
    (gates["policy"] == "bold")
    & gates["name"].isin(["mean weight", "support", "effective sample size", "largest weight"])
]
careful = replay(policy("challenger", "careful", temperature=0.1), self_test=not SMOKE)
ax = plots.weights(*careful.weights["careful"], title="Careful: weights of the lists", ax=right)

# %%
asked.set_index("name")[["verdict", "value", "bound", "says"]]

# %% [markdown]
# ## What would change the verdict?
#
# Three things can: more traffic, more exploration by the champion, or a challenger that stays closer to what was
# shown. The third costs nothing to try. The same bundle, drawn at rising temperatures, from nearly deterministic to
# quite mixed:

# %%
steps = (0.02, 0.1) if SMOKE else (0.02, 0.035, 0.05, 0.1, 0.2)
tried = []
for temperature in steps:
    name = f"{temperature:g}"
    found = replay(policy("challenger", name, temperature=temperature))
    row = evaluations.differences(found).iloc[0]
    size = (
        evaluations.gates(found).query("policy == @name and name == 'effective sample size'")["value"].iloc[0]
    )
    label = f"temperature {name} ({size:,.0f} effective lists): {found.decision}"
    tried.append({"label": label, "refused": found.refused, **row[["value", "low", "high"]]})
ax = plots.intervals(
    pd.DataFrame(tried), "label", "value", weak="refused", mark=0.0,
    xlabel="reward per list, challenger minus champion", title="The bolder the challenger, the less the log knows",
)  # fmt: skip

# %% [markdown]
# Hollow rows are refused by a gate: the number is there, and nobody should quote it. More traffic narrows everything,
# roughly with the square root of its size. Below, the careful challenger on growing parts of the same log (whole
# users, drawn at random).

# %%
users = np.random.default_rng(3).permutation(traffic["user_id"].unique())
events = tables.events.to_pandas()
grown = []
for share in (0.5, 1.0) if SMOKE else (0.125, 0.25, 0.5, 1.0):
    part = events[events["user_id"].isin(users[: int(share * len(users))])]
    evaluation = evaluate_log(
        from_table(tables.events.filter(events["user_id"].isin(part["user_id"].unique()).to_numpy())),
        policy("challenger", "careful", temperature=0.1), policy("champion", "popular", **EXPLORING), OPTIONS,
        attributes=tables.attributes, self_test=False,
    ).evaluation  # fmt: skip
    row = evaluations.differences(evaluation).iloc[0]
    lists = int((part["event_type"].eq("impression") & part["position"].eq(0)).sum())
    grown.append(
        {
            "label": f"{lists:,} lists: {evaluation.decision}",
            "refused": evaluation.refused,
            **row[["value", "low", "high"]],
        }
    )
ax = plots.intervals(
    pd.DataFrame(grown), "label", "value", weak="refused", mark=0.0,
    xlabel="reward per list, challenger minus champion", title="What more traffic buys",
)  # fmt: skip

# %% [markdown]
# ## The careful challenger, in full

# %%
print(careful.sentence)
checks = evaluations.gates(careful)
checks["policy"] = checks["policy"].replace("", "(whole log)")
checks.set_index(["policy", "name"])[["verdict", "says"]]

# %% [markdown]
# Estimators that make different mistakes should agree. IPS weighs what was earned without a model, SNIPS normalises
# the weights; DR corrects a model by weighted errors and decides here; DROS shrinks large weights. The hollow ones
# are no evidence: DM is the model's opinion of itself, and replay counts matching lists only, which is right where
# everything was shown equally often and wrong here.

# %%
table = evaluations.estimates(careful)
table = table[table["estimator"].isin(["mean reward", "replay", "ips", "snips", "dros(100)", "dr", "dm"])]
table["label"] = table["estimator"] + ", " + table["policy"].replace("logging", "the log")
table["weak"] = table["estimator"].isin(["dm", "replay"])
ax = plots.intervals(
    table[table["policy"] != "popular"], "label", "value", by="policy", weak="weak",
    xlabel="reward per list (95 % interval)", title="Estimators of the careful challenger beside what was logged",
)  # fmt: skip

# %% [markdown]
# ## For whom?
#
# The difference by how many events were known of the user, and by segment. Bounds hold for all cells of a group at
# once; cells worth fewer than 100 lists are hollow, those worth fewer than 20 are left out. Where no event is known
# the challenger can only use what it learnt of everybody and of the segment; where some are, it adapts.

# %%
cells = evaluations.cohorts(careful)
cells = cells[cells["segment"].isin(["events used", "segment"]) & (cells["effective"] >= 20)]
cells = cells.assign(
    label=cells["segment"].str.cat(cells["cell"].str.replace("segment ", ""), sep=": "), weak=~cells["enough"]
)
ax = plots.intervals(
    cells, "label", "difference", weak="weak", mark=0.0, xlabel="reward per list, challenger minus champion",
    title="Who gains",
)  # fmt: skip

# %% [markdown]
# ## Was replay right?
#
# Now the careful challenger goes live for new visitors of the same world. Its mean reward per list is what replay
# tried to know beforehand. The two are not the same question: replay asks about the requests that were logged, whose
# users had histories made by the champion; live, histories are the challenger's own.

# %%
LIVE = STORE.with_name(f"after-{NOW:%Y%m%d%H%M%S}.sqlite")
with running_endpoint(LIVE, shop.registry, alias="challenger") as url:
    run_experiment(
        url, "launch", [{"name": "all", "exploration": {"kind": "plackett_luce", "temperature": 0.1}}]
    )
    after = visit(url, shop.world, Plan(LATER, 3.0, NOW, LENGTH), np.random.default_rng(12))
both = pd.concat([traffic.assign(label="popular, live"), after.assign(label="careful, live afterwards")])
lived = rates(both, "reward", "label").reset_index().rename(columns={"mean": "value"}).assign(kind="lived")
decided = table[(table["policy"] == "careful") & (table["estimator"] == careful.headline)]
foretold = decided.assign(label="careful, by replay", kind="foretold")
verdict = (
    pd.concat([lived, foretold])
    .set_index("label")
    .loc[["popular, live", "careful, by replay", "careful, live afterwards"]]
)
ax = plots.intervals(
    verdict.reset_index(), "label", "value", by="kind", xlabel="reward per list (95 % interval, users as units)",
    title="Foretold and lived",
)  # fmt: skip
connection.close()

# %% [markdown]
# **Answer.** As trained, no: this log cannot speak for lists that it hardly ever showed, and a gate says so before
# anybody quotes a number. Drawn a little more evenly, yes: the whole interval of the difference is above zero, the
# estimators that may speak agree, and new visitors confirmed it. What would let the bold one in is a champion that
# explores more, or the careful one live first: its log will hold the lists that the bold one wants to show.
