"""Experiments: who sees which variant. An assignment is a pure function of (experiment, user), so it sticks."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.config import JsonDict

from recsys.config import ExplorationConfig
from recsys.frozen import Frozen
from serving.identifiers import NAME

FACT = "experiments"
Word = Annotated[str, Field(pattern=NAME)]

EXAMPLE: JsonDict = {
    "variants": [
        {"name": "control", "weight": 0.9},
        {
            "name": "curious",
            "weight": 0.1,
            "exploration": {"kind": "thompson", "samples": 16, "epsilon": 0.05},
        },
    ]
}


class Variant(Frozen):
    """One way to answer."""

    name: Word
    weight: Annotated[float, Field(ge=0.0, le=1e6)] = 1.0  # share of users, relative to the other variants
    model: Word | None = None  # version or alias; the model in use if left out
    exploration: ExplorationConfig | None = None  # how lists are drawn; as the bundle says if left out


class ExperimentBody(Frozen):
    """What is compared; a small share of users on another model is a canary."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=20)]
    scenarios: Annotated[tuple[Word, ...], Field(max_length=50)] = ()  # requests of these only; all if empty
    salt: Annotated[str, Field(max_length=64)] = ""  # another one assigns everybody anew

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "ExperimentBody":
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(
                f"variants are named {', '.join(names)}: each name must be given once; rename one"
            )
        if not sum(variant.weight for variant in self.variants) > 0:
            raise ValueError("the weights add up to 0: at least one must be above; give a larger weight")
        return self


class Experiment(ExperimentBody):
    """A running experiment."""

    name: Word

    def of(self, unit: str) -> Variant:
        """Return the variant of a user or session: where its hash falls among the weights."""
        digest = hashlib.blake2b(f"{self.name}\x1f{self.salt}\x1f{unit}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "little") / 2**64 * sum(variant.weight for variant in self.variants)
        for variant in self.variants:
            place -= variant.weight
            if place < 0:
                return variant
        return [variant for variant in self.variants if variant.weight > 0][-1]

    def label(self, variant: Variant) -> str:
        """Return what answers and lines call a variant."""
        return f"{self.name}:{variant.name}"


_MANY = TypeAdapter(tuple[Experiment, ...])


def parse_experiments(text: str | None) -> tuple[Experiment, ...]:
    """Return the experiments that a fact holds."""
    return () if text is None else _MANY.validate_json(text)


def encode_experiments(experiments: Sequence[Experiment]) -> str:
    """Return the fact that holds experiments."""
    return orjson.dumps([experiment.model_dump(mode="json") for experiment in experiments]).decode()


def assigned(
    experiments: Sequence[Experiment], unit: str | None, scenario: str | None, wanted: str | None
) -> tuple[Experiment, Variant] | None:
    """Return the experiment and variant of a request: the one it names, else the first that fits its scenario.

    Raises LookupError if it names a variant that there is none of.
    """
    if wanted is not None:
        for experiment in experiments:
            for variant in experiment.variants:
                if wanted in (variant.name, experiment.label(variant)):
                    return experiment, variant
        raise LookupError(wanted)
    if unit is None:
        return None  # nobody to stick to
    for experiment in experiments:
        if not experiment.scenarios or scenario in experiment.scenarios:
            return experiment, experiment.of(unit)
    return None
