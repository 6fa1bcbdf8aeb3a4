"""From the name of a log format to the adapter that reads it."""

from recsys.config import LogConfig
from recsys.datasets.adapter import Adapter
from recsys.datasets.complete_journey import CompleteJourneyAdapter
from recsys.datasets.mapped_file import MappedFileAdapter
from recsys.datasets.movielens import MovieLensAdapter
from recsys.datasets.online_retail import OnlineRetailAdapter
from recsys.datasets.open_bandit import OpenBanditAdapter
from recsys.datasets.tables import TablesAdapter


def open_log(config: LogConfig) -> Adapter:
    """Return the adapter of a log; raises UserError if its path does not have that format's layout."""
    match config.format:
        case "tables":
            return TablesAdapter(config.path, config.batch_rows)
        case "online-retail":
            return OnlineRetailAdapter(config.path, config.batch_rows)
        case "complete-journey":
            return CompleteJourneyAdapter(config.path, config.batch_rows)
        case "movielens":
            return MovieLensAdapter(config.path, config.batch_rows)
        case "open-bandit":
            return OpenBanditAdapter(config.path, config.batch_rows)
        case "file":
            return MappedFileAdapter(config.path, config.mapping, config.batch_rows)
