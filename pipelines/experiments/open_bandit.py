"""Open Bandit logs: the on-policy value of one policy against its estimate from the other's log, both ways.

    python -m pipelines.experiments.open_bandit --root FOLDER [--out open_bandit.json]

FOLDER holds {random,bts}/{men,women} as published. Both policies choose without looking at the visitor, so what `bts`
shows at a position, and how often, stands in its own log.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.experiments.command import run_command
from recsys import columns as c
from recsys.datasets.open_bandit import OpenBanditAdapter
from recsys.evaluation.ope.accumulate import sum_rounds
from recsys.evaluation.ope.clustered import clustered_intervals
from recsys.evaluation.ope.estimators import ips, on_policy, replay, snips
from recsys.evaluation.ope.gates import refused, weight_gates
from recsys.evaluation.ope.likelihood import likelihood_interval
from recsys.evaluation.ope.rounds import Rounds

CAMPAIGNS = ("men", "women")
POLICIES = ("random", "bts")
REWARDS = (0.0, 1.0)


def rows_of(root: Path, policy: str, campaign: str) -> pd.DataFrame:
    """Return impressions with their clicks, in the order of the log."""
    adapter = OpenBanditAdapter(root / policy / campaign, 65_536)
    events = pd.concat([batch.events.to_pandas() for batch in adapter.batches()], ignore_index=True)
    clicked = set(events.loc[events[c.EVENT_TYPE] == c.CLICK, c.RECOMMENDATION_ID])
    shown = events[events[c.EVENT_TYPE] == c.IMPRESSION].reset_index(drop=True)
    return shown.assign(reward=shown[c.RECOMMENDATION_ID].isin(clicked).astype(float))


def chances(log: pd.DataFrame, items: list[str]) -> pd.DataFrame:
    """Return how often a policy showed each item at each position of its own log, (item, position).

    `bts` learns while it logs: its propensities move within the week. Shares are those of its mean over the week.
    """
    counts = log.groupby([c.ITEM_ID, c.POSITION]).size().unstack(fill_value=0).reindex(items, fill_value=0)
    return counts / counts.sum()


def estimated(log: pd.DataFrame, target: pd.DataFrame) -> dict[str, Any]:
    """Return the target's value from another's log, with intervals and gates."""
    chosen = np.array(
        [target.at[item, place] for item, place in zip(log[c.ITEM_ID], log[c.POSITION], strict=True)]
    )
    # visitors are not named; impressions of one moment are of one page
    page = pd.factorize(log[c.TIMESTAMP])[0].astype(np.int64)
    least = log[c.PROPENSITY].min()
    rounds = Rounds(
        log["reward"].to_numpy(),
        log[c.PROPENSITY].to_numpy(np.float64),
        np.minimum(chosen, 1.0),
        cluster=page,
        max_weight=float(max(target.to_numpy().max() / least, 1.01)),
    )
    sums = sum_rounds(rounds, {"ips": ips, "snips": snips, "replay": replay, "on_policy": on_policy})
    exact = likelihood_interval(sums, {"snips": 1.0}, reward_range=REWARDS)
    large = clustered_intervals(sums)["snips"]
    gates = weight_gates(sums, 0)
    values = dict(zip(sums.names, sums.estimates().tolist(), strict=True))
    return {
        "snips": values["snips"],
        "ips": values["ips"],
        "replay": values["replay"],
        "likelihood": [exact.low, exact.high],
        "clustered": [large.low, large.high],
        "effective": sums.weights[0].effective,
        "mean_weight": sums.weights[0].mean,
        "refused": refused(gates),
        "gates": {gate.name: gate.verdict for gate in gates},
    }


def main() -> None:
    """Estimate each policy from the other's log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("open_bandit.json"))
    given = parser.parse_args()
    found: dict[str, Any] = {}
    print(
        "| campaign | value of | from the log of | on-policy (95 %) | SNIPS | likelihood 95 % | holds it | ESS |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for campaign in CAMPAIGNS:
        logs = {policy: rows_of(given.root, policy, campaign) for policy in POLICIES}
        items = sorted(set(logs["random"][c.ITEM_ID]) | set(logs["bts"][c.ITEM_ID]))
        tables = {policy: chances(log, items) for policy, log in logs.items()}
        for target, source in (("bts", "random"), ("random", "bts")):
            reward = logs[target]["reward"]
            half = 1.96 * reward.std() / np.sqrt(len(reward))
            row = estimated(logs[source], tables[target])
            low, high = row["likelihood"]
            row |= {
                "on_policy": reward.mean(),
                "half_width": half,
                "holds": bool(low <= reward.mean() <= high),
            }
            found[f"{campaign}: {target} from {source}"] = row
            holds = f"{'yes' if row['holds'] else 'NO'}{' (refused)' if row['refused'] else ''}"
            print(
                f"| {campaign} | {target} | {source} | {reward.mean():.4f} ± {half:.4f} | {row['snips']:.4f} | "
                f"{low:.4f} to {high:.4f} | {holds} | "
                f"{row['effective']:,.0f} |"
            )
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
