"""Which model answers: activate, roll back, shadow; and who sees which variant."""

import orjson
from fastapi import APIRouter, Response
from pydantic import TypeAdapter, ValidationError

from serving.admin_schemas import ActivatedAnswer, ExperimentsAnswer, ModelsAnswer, ShadowAnswer
from serving.dependencies import Body, CurrentService, Service
from serving.experiments import Experiment, ExperimentBody, Word
from serving.problems import Problem, refusal, shown
from serving.schemas import errors, json_body

router = APIRouter(tags=["models"])

_NAME = TypeAdapter(Word)


@router.get(
    "/v1/models",
    response_model=ModelsAnswer,
    responses=errors(422),
    summary="Versions, aliases, what is in use",
)
async def models(service: CurrentService) -> Response:
    """Return what this worker knows of the registry."""
    return _json(service.fleet.models())


@router.post(
    "/v1/models/rollback",
    response_model=ActivatedAnswer,
    responses=errors(404, 409),
    summary="Answer with the version before",
)
async def roll_back(service: CurrentService) -> Response:
    """Move the alias back to where it pointed before; other workers follow within RECSYS_REFRESH_S."""
    service.ready()
    version = await service.fleet.roll_back()
    show(service)
    return _json({"active": version})


@router.delete(
    "/v1/models/shadow",
    response_model=ShadowAnswer,
    responses=errors(404, 409),
    summary="Let no model rank in the shadow",
)
async def no_shadow(service: CurrentService) -> Response:
    """Stop ranking beside the model in use."""
    await service.fleet.shadow(None)
    show(service)
    return _json({"shadow": None})


@router.post(
    "/v1/models/{version}/activate",
    response_model=ActivatedAnswer,
    responses=errors(404, 409, 422),
    summary="Answer with a version",
)
async def activate(service: CurrentService, version: str) -> Response:
    """Load a version, move the alias to it and answer with it from the next request on; none is dropped or mixed."""
    service.ready()
    active = await service.fleet.activate(version)
    show(service)
    return _json({"active": active})


@router.post(
    "/v1/models/{version}/shadow",
    response_model=ShadowAnswer,
    responses=errors(404, 409, 422),
    summary="Let a version rank unseen beside the one in use",
)
async def shadow(service: CurrentService, version: str) -> Response:
    """Rank every list by this version too; the difference stands in the line of the list and in /metrics."""
    service.ready()
    await service.fleet.shadow(version)
    show(service)
    return _json({"shadow": version})


@router.get(
    "/v1/experiments",
    response_model=ExperimentsAnswer,
    responses=errors(422),
    summary="The running experiments",
)
async def experiments(service: CurrentService) -> Response:
    """Return the experiments in the order in which a request is matched with them."""
    running = service.ready().experiments
    return _json({"experiments": [experiment.model_dump(mode="json") for experiment in running]})


@router.put(
    "/v1/experiments/{name}",
    response_model=ExperimentsAnswer,
    responses=errors(400, 404, 409, 413, 422),
    openapi_extra=json_body(ExperimentBody),
    summary="Run an experiment",
)
async def put(service: CurrentService, name: str, body: Body) -> Response:
    """Begin or change an experiment; who sees which variant follows from its name, its salt and the user alone."""
    running = service.ready().experiments
    try:
        asked = ExperimentBody.model_validate_json(body)
        experiment = Experiment(name=_NAME.validate_python(name), **dict(asked))
    except ValidationError as error:
        raise refusal(error) from None
    if all(each.name != name for each in running):
        await service.fleet.put_experiments((*running, experiment))
    else:
        await service.fleet.put_experiments([experiment if each.name == name else each for each in running])
    show(service)
    return await experiments(service)


@router.delete(
    "/v1/experiments/{name}",
    response_model=ExperimentsAnswer,
    responses=errors(404, 422),
    summary="End an experiment",
)
async def delete(service: CurrentService, name: str) -> Response:
    """End an experiment; lines keep the variant that answered."""
    running = service.ready().experiments
    if all(each.name != name for each in running):
        raise Problem(404, "not_found", f"no experiment {shown(name)} runs; see GET /v1/experiments")
    await service.fleet.put_experiments([each for each in running if each.name != name])
    show(service)
    return await experiments(service)


def show(service: Service) -> None:
    """Bring what /metrics says of the models up to date."""
    snapshot = service.fleet.snapshot
    if snapshot is not None:
        service.metrics.show_bundles(
            snapshot.champion.version,
            None if snapshot.shadow is None else snapshot.shadow.version,
            sorted({model.version for model in snapshot.others.values()} - {snapshot.champion.version}),
        )


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
