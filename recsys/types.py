"""Array aliases and axis words.

Axis words used in shape comments: batch, time, candidate, feature, task, support, query, item, user.
An *external id* is the caller's string; an *index* is our position in the catalogue.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]
ExternalId = str
