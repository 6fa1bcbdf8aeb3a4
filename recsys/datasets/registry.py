"""From the name of a log format to the adapter that reads it."""

from recsys.config import LogConfig
from recsys.datasets.adapter import Adapter
from recsys.datasets.online_retail import OnlineRetailAdapter
from recsys.datasets.tables import TablesAdapter


def open_log(config: LogConfig) -> Adapter:
    """Return the adapter of a log; raises UserError if what lies at its path does not have that format's layout."""
    match config.format:
        case "tables":
            return TablesAdapter(config.path, config.batch_rows)
        case "online-retail":
            return OnlineRetailAdapter(config.path, config.batch_rows)
    raise NotImplementedError(config.format)
