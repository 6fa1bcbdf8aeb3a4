"""Validate: the served object itself, adapted, on the cold users that choose settings; `recsys tune` maximises this.

No step of a run needs it, and test users are not read.
"""

import json

import numpy as np

from pipelines.cases import validation_cases
from pipelines.publish import BUNDLE
from pipelines.steps import Step, StepContext, Summary
from recsys.errors import UserError
from recsys.evaluation.ranking import hits, ndcg
from recsys.evaluation.served import served_lists
from recsys.logs.prepared import open_prepared
from recsys.recommender import load_recommender


def run(context: StepContext) -> Summary:
    """Rank the whole catalogue for every cold validation user after k events and write validation.json."""
    settings = context.config.evaluate
    log = open_prepared(context.inputs["prepare"])
    cases = validation_cases(context, log)
    if len(cases) == 0:
        raise UserError(
            f"0 cold validation users with more than {max(settings.shots)} events, at least 1 is needed to choose "
            "settings by; lower the largest of evaluate.shots or raise prepare.split.validation_share"
        )
    recommender = load_recommender(context.inputs["index"] / BUNDLE)
    context.progress.start(len(cases) * len(settings.shots), "list", "cold validation users")
    per_shot = {}
    for k in settings.shots:
        ranked = served_lists(
            recommender, cases, k, settings.cutoff, adapt=True, on_case=context.progress.advance
        )
        per_shot[k] = float(ndcg(hits(ranked, cases.query), cases.query.sizes).mean())
    quality = float(np.mean(list(per_shot.values())))
    report = {"users": len(cases), "ndcg": quality, "by_shots": per_shot}
    (context.out / "validation.json").write_text(
        json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    return {"users": len(cases), "ndcg": round(quality, 6)}


STEP = Step(
    name="validate",
    run=run,
    inputs=("prepare", "index"),
    settings=lambda config: {"validation": config.evaluate.validation_settings()},
)
