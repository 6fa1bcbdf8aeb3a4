"""Arrays written piece by piece to .npy files, never in memory as a whole."""

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt


class ArrayWriter:
    """One (length,) array in a .npy file; how long it is shows when it is closed."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._length = 0
        self._write_header()

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.seek(0)
        self._write_header()  # NumPy leaves room for the largest first axis, so the header keeps its size
        self._file.close()

    def append(self, values: npt.NDArray[Any]) -> None:
        """Write the next values."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())
        self._length += len(values)

    def append_file(self, path: Path) -> None:
        """Write the values of another (length,) array in a .npy file, copied in pieces."""
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            (length,), _, dtype = np.lib.format.read_array_header_1_0(file)
            assert dtype == self._dtype  # noqa: S101
            shutil.copyfileobj(file, self._file, 1 << 22)
        self._length += length

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._length,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
