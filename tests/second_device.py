"""A device that is not the CPU, for machines without one: the same arithmetic, but tensors know where they lie.

A tensor "over there" wraps a tensor of the CPU and says that its device is `THERE`. Every operation is done by the
CPU's kernels on what is wrapped, after the rules that a GPU keeps were checked:

- tensors of different places do not meet, but for copies, numbers (no axes) and a list of places told by the CPU;
- chance over there is not drawn by a generator of the CPU;
- numpy sees no tensor that lies there.

So code that forgets to move a tensor fails here as it would on a GPU, and code that does not comes to the CPU's result.
Kernels, memory and speed of a GPU are not what this can show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("meta")  # a name that torch knows on every build; nothing else is made of it here
COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEX = torch.ops.aten.index.Tensor
INDEX_PUT = {torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default}


class Lying(torch.Tensor):
    """A tensor over there."""

    here: torch.Tensor  # what holds its numbers
    is_meta = False

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "Lying":
        """Wrap a tensor of the CPU."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=THERE,
        )
        made.here = here
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Lying({self.here})"

    def numpy(self, **_: Any) -> Any:
        """Refuse, as a tensor of a GPU does."""
        raise TypeError("numpy cannot see a tensor that is not on the CPU; call .cpu() first")

    __array__ = numpy

    def data_ptr(self) -> int:
        """Tell where its numbers lie."""
        return self.here.data_ptr()

    def tolist(self) -> Any:
        """Copy it and tell its numbers."""
        return self.detach().cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return carried_out(function, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """Sees the operations that no tensor over there takes part in: what is made there, and what is moved there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return carried_out(function, args, kwargs or {})


class Made(TorchFunctionMode):
    """Sees tensors made of Python's numbers, of which no operation tells."""

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") == THERE:
            return function(*args, **{**kwargs, "device": "cpu"}).to(THERE)
        return function(*args, **kwargs)


def carried_out(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Check who meets, let the CPU do it, and wrap what lies over there."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [isinstance(tensor, Lying) for tensor in tensors]
    asked = kwargs.get("device")
    if function not in COPIES:
        refuse_strangers(function, tensors, there)
    drawn = any(isinstance(leaf, torch.Generator) for leaf in tree_leaves((args, kwargs)))
    if drawn and (any(there) or asked == THERE):
        raise RuntimeError(f"{function}: a generator of the CPU draws nothing over there")
    lands = asked == THERE if asked is not None else any(there)
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    original = args
    args, kwargs = tree_map(unwrapped, (args, kwargs))
    result = function(*args, **kwargs)
    if _in_place(function):
        if tensors[0].shape != result.shape or tensors[0].stride() != result.stride():
            with torch._C._DisableTorchDispatch():  # a view of itself (transpose_): the wrapper follows
                function(tensors[0], *original[1:], **kwargs)
        return tensors[0]
    return tree_map(
        lambda value: Lying(value) if lands and isinstance(value, torch.Tensor) else value, result
    )


def refuse_strangers(function: Any, tensors: list[torch.Tensor], there: list[bool]) -> None:
    """Raise RuntimeError where tensors of both places would meet."""
    if there[:1] == [True] and (function is INDEX or function in INDEX_PUT):  # places may be told by the CPU
        ends = [0, -1] if function in INDEX_PUT else [0]
        tensors, there = [tensors[end] for end in ends], [there[end] for end in ends]
    strangers = [tensor for tensor, far in zip(tensors, there, strict=True) if not far and tensor.ndim > 0]
    if any(there) and strangers:
        raise RuntimeError(
            f"{function}: expected all tensors to be on the same device, found {THERE} and a tensor of shape "
            f"{tuple(strangers[0].shape)} on the CPU"
        )


def unwrapped(value: Any) -> Any:
    """Return what holds a tensor's numbers."""
    return value.here if isinstance(value, Lying) else value


def _in_place(function: Any) -> bool:
    returns = function._schema.returns
    return bool(returns) and returns[0].alias_info is not None and returns[0].alias_info.is_write


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Let tensors lie over there while inside; yield the device."""
    fused = optimizer._get_fused_kernels_supported_devices
    optimizer._get_fused_kernels_supported_devices = lambda: [*fused(), THERE.type]
    try:
        with SecondDevice(), Made():
            yield THERE
    finally:
        optimizer._get_fused_kernels_supported_devices = fused
