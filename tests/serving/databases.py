"""A PostgreSQL database of a test's own, on the server at RECSYS_TEST_POSTGRES."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import make_url

SERVER = os.environ.get("RECSYS_TEST_POSTGRES", "postgresql://root@127.0.0.1:5432/test")


@contextmanager
def new_database() -> Iterator[str]:
    """Make an empty database, return its address, and drop it in the end."""
    name = f"metaq_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    try:
        yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(SERVER, autocommit=True) as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
