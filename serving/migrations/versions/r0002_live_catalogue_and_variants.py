"""Changes of the catalogue, scenario, variant and number of candidates of a list; clients may say what was shown."""

import sqlalchemy as sa
from alembic import op

from recsys.logs.live_tables import logged_events_ddl

revision = "0002"
down_revision = "0001"

_SHOWN = sa.text("event_type = 'impression'")


def upgrade() -> None:
    """Add columns, the table of changes and the view over both engines."""
    op.add_column("impressions", sa.Column("scenario", sa.Text))
    op.add_column("impressions", sa.Column("variant", sa.Text))
    op.add_column("impressions", sa.Column("candidates", sa.Integer))
    op.create_index(
        "events_shown", "events", ["recommendation_id"], postgresql_where=_SHOWN, sqlite_where=_SHOWN
    )
    op.create_table(
        "item_changes",
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
    )
    op.create_index("item_changes_by_item", "item_changes", ["item_id", "revision"])
    op.execute("DROP VIEW IF EXISTS logged_events")
    op.execute(logged_events_ddl(op.get_bind().dialect.name).replace(":", r"\:"))


def downgrade() -> None:
    """Go back to the tables of before; changes of the catalogue are lost."""
    op.execute("DROP VIEW logged_events")
    op.drop_table("item_changes")
    op.drop_index("events_shown", "events")
    for name in ("candidates", "variant", "scenario"):
        op.drop_column("impressions", name)
