"""Content vectors of items in the configured space: fitted to the log, or one for all logs."""

import pyarrow as pa

from recsys.config import PrepareConfig
from recsys.logs.content import content_features
from recsys.logs.shared_content import shared_content
from recsys.types import FloatArray


def item_content(
    items: pa.Table, config: PrepareConfig, seed: int, fitted_on: pa.Table | None = None
) -> FloatArray:
    """Return (item, feature); with `fitted_on`, in the space of those items."""
    if config.content_space == "shared":
        return shared_content(items, config.content_features, fitted_on)
    return content_features(items, config.content_features, seed, fitted_on)
