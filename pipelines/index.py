"""Index: the student's item vectors in a candidate index, packed into the bundle that is served."""

from dataclasses import replace

import numpy as np
import torch
from safetensors.torch import load_file

from pipelines.publish import BUNDLE
from pipelines.steps import Step, StepContext, Summary
from recsys.adaptation import AdaptationPrior
from recsys.artifacts.bundle import read_catalogue, save_bundle
from recsys.artifacts.bundle_info import QInfo
from recsys.candidates.content import ContentNeighbours
from recsys.candidates.index import choose_index
from recsys.catalogue import Catalogue
from recsys.config import StateConfig
from recsys.evaluation.cold_start import history_of
from recsys.learning.checkpoint import load_student, load_table
from recsys.logs.prepared import PreparedInfo, PreparedLog, Role, open_prepared
from recsys.models.item_table import ItemTable
from recsys.randomness import derive_seed, numpy_generator
from recsys.request_form import RequestForm
from recsys.types import BoolArray, FloatArray

JUDGED_BY = 200  # validation users


def run(context: StepContext) -> Summary:
    """Build the index, measure its recall against exact search on the bundle's own vectors, write the bundle."""
    config = context.config
    prepared = context.inputs["prepare"]
    log = open_prepared(prepared)
    student = load_student(context.inputs["distill"])
    table = load_table(context.inputs["distill"] / "table.safetensors")
    prior = AdaptationPrior.from_weights(load_file(str(context.inputs["distill"] / "prior.safetensors")))
    catalogue = read_catalogue(prepared / "items.parquet")
    with np.load(context.inputs["metatrain"] / "statistics.npz") as statistics:
        popularity = torch.from_numpy(statistics["popularity"])
    if config.index.unseen == "content":
        table = with_content_rows(table, catalogue, popularity.numpy() == 0)
    vectors = table.index_vectors().numpy()
    form = RequestForm(student, prior, table, config.state.max_events, config.pretrain.discount)
    asked = users_queries(log, form, numpy_generator(context.seed, "recall"))
    index, chosen, found = choose_index(vectors, config.index, derive_seed(context.seed, "recall"), asked)
    info = QInfo(
        shape=student.shape,
        state=served_state(config.state, log.info),
        discount=config.pretrain.discount,
        event_types=log.info.event_types,
        attributes=log.info.user_attributes,
        attribute_values=log.info.user_attribute_values,
        reward=config.prepare.reward,
        index=chosen,
        exploration=config.exploration,
        impressions=log.info.impressions_are,
    )
    save_bundle(context.out / BUNDLE, info, student, prior, table, popularity, catalogue, index)
    context.log(
        f"{len(index)} items, {index.features} features, {chosen.kind}, recall@{config.index.candidates} {found:.4f}"
    )
    return {"items": len(index), "features": index.features, "recall": round(found, 4)}


def with_content_rows(table: ItemTable, catalogue: Catalogue, unseen: BoolArray) -> ItemTable:
    """Return the table in which items without a history have the mean row of those most like them that have one."""
    items, known = np.flatnonzero(unseen), np.flatnonzero(~unseen)
    if not len(items) or not len(known):
        return table
    columns = table.index_vectors()  # a copy
    columns[items] = torch.from_numpy(ContentNeighbours(catalogue).means(items, known, columns.numpy()))
    vectors, features, bias = columns.split([table.vectors.shape[1], table.features.shape[1], 1], dim=1)
    return replace(
        table, vectors=vectors.contiguous(), features=features.contiguous(), bias=bias[:, 0].contiguous()
    )


def users_queries(
    log: PreparedLog, form: RequestForm, generator: np.random.Generator, role: Role = Role.COLD_VALIDATION
) -> FloatArray:
    """Return what users of a role would ask the index, adapted to a random number of their events, (user, feature)."""
    users = log.with_role(role)
    users = generator.permutation(users)[:JUDGED_BY]
    asked = []
    for user in users:
        history = history_of(log, int(user))
        events = generator.integers(1, len(history), endpoint=True)
        asked.append(form.query(history.first(int(events)), adapt=True, memory=True)[0][:-1])
    return np.stack(asked) if asked else np.empty((0, 0), np.float32)


def served_state(state: StateConfig, log: PreparedInfo) -> StateConfig:
    """Return the state's settings with the silence that ended the log's sessions, where one did."""
    if log.session_gap_s is None:
        return state
    return state.model_copy(update={"session_gap_minutes": log.session_gap_s / 60})


STEP = Step(
    name="index",
    run=run,
    inputs=("prepare", "metatrain", "distill"),
    settings=lambda config: {
        "state": config.state,
        "discount": config.pretrain.discount,
        "index": config.index,
        "exploration": config.exploration,
        "reward": config.prepare.reward,
    },
)
