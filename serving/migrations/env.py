"""What Alembic runs: the revisions over the connection that serving/migrating.py hands in."""

from alembic import context

from recsys.logs.live_tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
