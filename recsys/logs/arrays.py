"""Arrays of known length written piece by piece to .npy files, never in memory as a whole."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt


class ArrayWriter:
    """One (length,) array in a .npy file."""

    def __init__(self, path: Path, length: int, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (length,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, values: npt.NDArray[Any]) -> None:
        """Write the next values."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())
