"""Brings a database to the revision that this program knows, once, whichever of several workers comes first."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from recsys.errors import UserError
from recsys.logs.live_tables import LIVE_REVISION

_SCRIPTS = Path(__file__).with_name("migrations")
_LOCK = 7_236_514_901  # of PostgreSQL's advisory locks: any number that nobody else takes


def migrate(connection: Connection, where: str) -> None:
    """Run the revisions that are missing, in the transaction of the connection.

    Raises UserError if the database is of a later program.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    standing = revision_of(connection)
    if standing == LIVE_REVISION:
        return
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    if standing is not None and standing not in _known(config):
        raise UserError(
            f"{where} is a store of revision {standing}, this program reads up to {LIVE_REVISION}; name another "
            "store, or run the program that wrote it"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def revision_of(connection: Connection) -> str | None:
    """Return the revision a database stands at; None for one that has never been migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _known(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
