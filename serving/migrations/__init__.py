"""Alembic's revisions of the live store; serving/migrating.py runs them."""
