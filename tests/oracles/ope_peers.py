"""Runs in the peers' own environment: reads arrays (.npz), prints what each peer makes of them as JSON.

.bench/ope/bin/python ope_peers.py rounds|slates|intervals|ranking FILE
"""

import json
import sys

import numpy as np


def rounds(given: dict[str, np.ndarray]) -> dict[str, float]:
    """Open Bandit Pipeline and VW's estimators on rounds."""
    from estimators.bandits import ips as vw_ips
    from estimators.bandits import snips as vw_snips
    from obp.ope import (
        DirectMethod,
        DoublyRobust,
        DoublyRobustWithShrinkage,
        InverseProbabilityWeighting,
        ReplayMethod,
        SelfNormalizedDoublyRobust,
        SelfNormalizedInverseProbabilityWeighting,
        SwitchDoublyRobust,
    )

    logged = {
        "action": given["action"],
        "reward": given["reward"],
        "pscore": given["propensity"],
        "position": np.zeros(len(given["action"]), int),
        "action_dist": given["evaluation"][:, :, None],
        "estimated_rewards_by_reg_model": given["q_values"][:, :, None],
    }
    weight = given["evaluation"][np.arange(len(given["action"])), given["action"]] / given["propensity"]
    tau = float(given["threshold"])
    found = {
        "ips": InverseProbabilityWeighting(),
        "clipped": InverseProbabilityWeighting(lambda_=tau),
        "snips": SelfNormalizedInverseProbabilityWeighting(),
        "dm": DirectMethod(),
        "dr": DoublyRobust(),
        "sndr": SelfNormalizedDoublyRobust(),
        "switch": SwitchDoublyRobust(lambda_=tau),
        "dros": DoublyRobustWithShrinkage(lambda_=tau),
    }
    out = {name: float(estimator.estimate_policy_value(**logged)) for name, estimator in found.items()}
    best = np.eye(given["evaluation"].shape[1])[given["evaluation"].argmax(axis=1)]
    out["replay"] = float(ReplayMethod().estimate_policy_value(**{**logged, "action_dist": best[:, :, None]}))
    out["replay of a policy that draws"] = float(ReplayMethod().estimate_policy_value(**logged))
    for name, module in (("vw ips", vw_ips), ("vw snips", vw_snips)):
        estimator = module.Estimator()
        for w, r in zip(weight, given["reward"], strict=True):
            estimator.add_example(1.0, float(r), float(w))
        out[name] = float(estimator.get())
    return out


def slates(given: dict[str, np.ndarray]) -> dict[str, float]:
    """Open Bandit Pipeline and VW on lists; arrays (list, position)."""
    from estimators.slates.pseudo_inverse import Estimator
    from obp.ope import (
        SlateCascadeDoublyRobust,
        SlateIndependentIPS,
        SlateRewardInteractionIPS,
        SlateStandardIPS,
    )

    lists, length = given["reward"].shape
    shared = {
        "slate_id": np.repeat(np.arange(lists), length),
        "position": np.tile(np.arange(length), lists),
        "reward": given["reward"].ravel(),
    }

    def flat(name: str) -> np.ndarray:
        return given[name].ravel()

    above0, above = (np.cumprod(given[name], axis=1) for name in ("propensity", "chosen"))
    whole0, whole = (np.repeat(product[:, -1], length) for product in (above0, above))
    out = {
        "standard": SlateStandardIPS(len_list=length).estimate_policy_value(
            **shared, pscore=whole0, evaluation_policy_pscore=whole
        ),
        "independent": SlateIndependentIPS(len_list=length).estimate_policy_value(
            **shared,
            pscore_item_position=flat("propensity"),
            evaluation_policy_pscore_item_position=flat("chosen"),
        ),
        "interaction": SlateRewardInteractionIPS(len_list=length).estimate_policy_value(
            **shared, pscore_cascade=above0.ravel(), evaluation_policy_pscore_cascade=above.ravel()
        ),
        "cascade-dr": SlateCascadeDoublyRobust(
            len_list=length, n_unique_action=given["q_values"].shape[2]
        ).estimate_policy_value(
            **shared,
            action=flat("item"),
            pscore_cascade=above0.ravel(),
            evaluation_policy_pscore_cascade=above.ravel(),
            q_hat=given["q_values"].ravel(),
            evaluation_policy_action_dist=given["distribution"].ravel(),
        ),
    }
    inverse = Estimator()
    for p0, p, r in zip(given["propensity"], given["chosen"], given["reward"], strict=True):
        inverse.add_example(p0.tolist(), float(r.sum()), p.tolist())
    return {name: float(value) for name, value in out.items()} | {"pseudo-inverse": float(inverse.get())}


def intervals(given: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """VW's Cressie-Read intervals, with the largest weight known and unknown."""
    from estimators.bandits.cressieread import Interval

    out = {}
    for name, most in (("known", float(given["max_weight"])), ("unknown", np.inf)):
        interval = Interval(0, most, 0, 1)
        for w, r in zip(given["weight"], given["reward"], strict=True):
            interval.add_example(1.0, float(r), float(w))
        out[name] = [float(end) for end in interval.get(0.05)]
    return out


def ranking(given: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """ir-measures on lists without ties; relevance is 0 or 1."""
    import ir_measures
    from ir_measures import AP, RR, P, R, Success, nDCG
    from sklearn.metrics import ndcg_score

    scores, relevant = given["scores"], given["relevant"]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(scores[user, item]))
        for user, item in np.ndindex(scores.shape)
    ]
    truth = [
        ir_measures.Qrel(str(user), str(item), int(relevant[user, item]))
        for user, item in np.ndindex(scores.shape)
    ]
    cutoff = int(given["cutoff"])
    wanted = {
        "ndcg": nDCG @ cutoff, "rr": RR @ cutoff, "ap": AP @ scores.shape[1], "precision": P @ cutoff,
        "recall": R @ cutoff, "hit": Success @ cutoff,
    }  # fmt: skip
    out = {name: [0.0] * len(scores) for name in wanted}
    by_name = {str(measure): name for name, measure in wanted.items()}
    for metric in ir_measures.iter_calc(list(wanted.values()), truth, run):
        out[by_name[str(metric.measure)]][int(metric.query_id)] = float(metric.value)
    graded = given["gain"]
    out["graded ndcg"] = [
        float(ndcg_score(graded[[user]], scores[[user]], k=cutoff)) if graded[user].any() else 0.0
        for user in range(len(scores))
    ]
    return out


PEERS = {"rounds": rounds, "slates": slates, "intervals": intervals, "ranking": ranking}

if __name__ == "__main__":
    with np.load(sys.argv[2]) as arrays:
        print(json.dumps(PEERS[sys.argv[1]](dict(arrays))))
