"""Small logs in every format, written in their official layouts, each with its known right answer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rating_samples import movielens, open_bandit
from sample_log import Sample
from shop_samples import complete_journey, online_retail
from table_samples import mapped_file, tables

SAMPLES: dict[str, Callable[[Path, int | None], Sample]] = {
    "tables": tables,
    "online-retail-parquet": online_retail("parquet"),
    "online-retail-csv": online_retail("csv"),
    "online-retail-xlsx": online_retail("xlsx"),
    "complete-journey-parquet": complete_journey("parquet"),
    "complete-journey-csv": complete_journey("csv"),
    "movielens-100K": movielens("100K"),
    "movielens-1M": movielens("1M"),
    "movielens-latest": movielens("latest"),
    "open-bandit": open_bandit,
    "file-csv": mapped_file("csv"),
    "file-parquet": mapped_file("parquet"),
    "file-jsonl": mapped_file("jsonl"),
}


@pytest.fixture(params=SAMPLES)
def write_sample(request: pytest.FixtureRequest) -> Callable[[Path, int | None], Sample]:
    """One of the small logs, as a function that writes it."""
    return SAMPLES[request.param]


@pytest.fixture
def samples() -> dict[str, Callable[[Path, int | None], Sample]]:
    """All of the small logs."""
    return SAMPLES
