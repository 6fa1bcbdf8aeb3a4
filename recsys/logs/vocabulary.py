"""External ids to codes: a given list, or one that grows with what the log names."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.types import IntArray


class Vocabulary:
    """Codes of strings, in the order in which they came; −1 for a null, or what a closed vocabulary lacks."""

    def __init__(self, known: pa.Array | None = None) -> None:
        self._closed = known is not None
        self.values: pa.Array = pa.array([], pa.string()) if known is None else known

    def encode(self, strings: pa.Array) -> IntArray:
        """Return the code of each string."""
        batch = strings.dictionary_encode()
        found = pc.index_in(batch.dictionary, value_set=self.values)
        if not self._closed and found.null_count:
            fresh = batch.dictionary.filter(found.is_null())
            self.values = pa.concat_arrays([self.values, fresh])
            found = pc.index_in(batch.dictionary, value_set=self.values)
        codes = pc.fill_null(found.take(batch.indices), -1)
        plain: IntArray = codes.to_numpy(zero_copy_only=False).astype(np.int32)
        return plain

    def sorted_order(self) -> IntArray:
        """Return new codes, by alphabet, of the codes given so far."""
        order = pc.sort_indices(self.values).to_numpy()
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        self.values = self.values.take(pa.array(order))
        self._closed = True
        return ranks
