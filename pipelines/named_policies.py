"""Policies by their names on the command line, and whose fault it is where one raises.

bundle@champion        a version or alias of the registry
bundle:PATH            a bundle's folder
random                 every item equally often
package.module:name    a policy of one's own, or a function that makes one
"""

import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pipelines.manifest import read_manifest
from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from recsys.evaluation.offline import served
from recsys.evaluation.replay.policies import (
    EvaluationPolicy,
    PolicyError,
    RandomOf,
    ServedPolicy,
    random_policy,
)
from recsys.logs.prepared import open_prepared

_PARTS: Final = ("name", "item_ids", "reads_impressions", "distribution")
_LONGEST: Final = 200  # characters of what was raised


@dataclass(frozen=True)
class Shelf:
    """Where bundles are found by alias, and how they are served."""

    registry: Path
    name: str
    include_seen: bool


def find_policy(
    text: str, shelf: Shelf, other: str | None = None
) -> tuple[EvaluationPolicy, datetime | None]:
    """Return a policy by its name on the command line, and until when it was trained, if that is known.

    `other` is the policy it is compared with, whose catalogue a random policy shows.
    """
    if (folder := bundle_folder(text, shelf.registry, shelf.name)) is not None:
        policy = served(folder, exclude_seen=not shelf.include_seen)
        return policy, policy.trained_until or _of_run(folder)
    if text == "random":
        if other is None or other == "random":
            raise UserError(
                "random needs another policy whose catalogue it shows; give --against bundle@champion"
            )
        shown = find_policy(other, shelf)[0]
        return RandomOf(shown) if isinstance(shown, ServedPolicy) else random_policy(shown.item_ids), None
    return _own(text), None


def bundle_folder(text: str, registry: Path, name: str) -> Path | None:
    """Return the folder of bundle@ALIAS or bundle:FOLDER; None for what names no bundle."""
    kind, _, rest = text.partition("@")
    if kind == "bundle" and rest:
        return Registry(registry).resolve(name, rest)
    return Path(text.removeprefix("bundle:")) if text.startswith("bundle:") else None


def _of_run(bundle: Path) -> datetime | None:
    """Return until when the bundle of a run's step was trained: it is the run's log that says so. None elsewhere."""
    prepared = bundle.parent.parent / "prepare"
    step, log = read_manifest(bundle.parent), read_manifest(prepared)
    read = None if step is None else step.inputs.get("prepare")
    if read is None or log is None or read.digest != log.digest:
        return None
    return datetime.fromisoformat(open_prepared(prepared).info.trained_until)


@contextmanager
def blamed(policies: Sequence[tuple[str, EvaluationPolicy]]) -> Iterator[None]:
    """Turn what a policy of one's own raises into one line that names it; what ours raise is a bug and stays."""
    try:
        yield
    except PolicyError as error:
        for text, policy in policies:
            if policy is error.policy and not isinstance(policy, ServedPolicy | RandomOf):
                raise UserError(
                    f"{_raised(text, error.__cause__)}, asked for a list of {error.user!r}; mend it"
                ) from None
        raise


def _own(text: str) -> EvaluationPolicy:
    module, _, attribute = text.partition(":")
    if not attribute:
        raise UserError(
            f"{text!r} names no policy; give bundle@champion, bundle:FOLDER, random or package.module:policy"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
        makes = isinstance(found, type) or (callable(found) and not hasattr(found, "distribution"))
        made = _made(found) if makes else found
        whole = all(hasattr(made, part) for part in _PARTS)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(f"{text!r} cannot be imported ({error}); is it on the path?") from None
    except Exception as error:
        if module in sys.modules and not hasattr(sys.modules[module], attribute):
            raise UserError(f"{text!r} names nothing: {error}; give a name that {module} has") from None
        raise UserError(f"{_raised(text, error)}, imported; mend it") from None
    if not whole:
        raise UserError(
            f"{text!r} is no policy; it needs {', '.join(_PARTS[:-1])} and {_PARTS[-1]} "
            "(recsys.evaluation.replay.policies.FunctionPolicy wraps a function)"
        )
    return made


def _made(maker: Any) -> Any:
    try:
        return maker()
    except TypeError:  # it asks for arguments that nobody has
        return None


def _raised(text: str, error: BaseException | None) -> str:
    """Return what was raised and where: the last line of the module named, else the last line at all."""
    module = sys.modules.get(text.partition(":")[0])
    lines = traceback.extract_tb(error.__traceback__ if error is not None else None)
    own = [line for line in lines if line.filename == getattr(module, "__file__", None)]
    where = [f" in {Path(line.filename).name}, line {line.lineno}" for line in (own or lines)[-1:]]
    return f"{text} raised {repr(error)[:_LONGEST]}{''.join(where)}"
