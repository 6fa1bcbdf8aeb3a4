"""A vectorised 64-bit hash of strings: what spreads rows over files, orders histories and breaks ties.

It is fixed for ever: the same text gives the same number on every machine, so the order of a prepared log
does not depend on the order of the file it came from. It is no defence against an adversary; equality is
checked on the text.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HashArray = npt.NDArray[np.uint64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_BYTES: Final = 8
# keeps the first k bytes of a little-endian word, k = 0 … 8
_KEEP: Final = np.array([(1 << (8 * k)) - 1 for k in range(_BYTES + 1)], dtype=np.uint64)


def mix(words: HashArray) -> HashArray:
    """Return the words scrambled, one to one (the finaliser of SplitMix64)."""
    mixed = words + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def salted(hashes: HashArray, salt: int) -> HashArray:
    """Return the hashes scrambled again, differently for each salt."""
    return mix(hashes ^ mix(np.array([salt & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)))


def hash_strings(strings: pa.Array) -> HashArray:
    """Return one hash per string; a null hashes as the empty string."""
    if isinstance(strings, pa.ChunkedArray):
        strings = strings.combine_chunks()
    strings = pc.fill_null(strings.cast(pa.string()), "")
    count = len(strings)
    if count == 0:
        return np.empty(0, dtype=np.uint64)
    _, offset_buffer, data_buffer = strings.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[
        strings.offset : strings.offset + count + 1
    ].astype(np.int64)
    text = (
        np.frombuffer(data_buffer, dtype=np.uint8) if data_buffer is not None else np.empty(0, dtype=np.uint8)
    )
    padded = np.zeros(int(offsets[-1] - offsets[0]) + _BYTES, dtype=np.uint8)
    padded[:-_BYTES] = text[offsets[0] : offsets[-1]]
    # every byte starts a word of eight, so that a string is read eight bytes at a time wherever it lies
    words = np.ndarray(shape=(len(padded) - _BYTES + 1,), dtype="<u8", buffer=padded.data, strides=(1,))
    starts = offsets[:-1] - offsets[0]
    lengths = offsets[1:] - offsets[:-1]
    hashes = mix(lengths.astype(np.uint64))
    active: slice | npt.NDArray[np.int64] = slice(None)
    # once at least, so that an empty text hashes alike with and without longer ones beside it
    for begin in range(0, max(int(lengths.max()), 1), _BYTES):
        if begin:
            active = np.flatnonzero(lengths > begin)
        left = np.clip(lengths[active] - begin, 0, _BYTES)
        word = words[np.minimum(starts[active] + begin, len(words) - 1)] & _KEEP[left]
        hashes[active] = mix(hashes[active] ^ word)
    return hashes
