"""Events, impressions, facts and users: the store of before there were migrations, which may stand already."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is missing of the first tables."""
    op.create_table(
        "events",
        *(
            sa.Column(name, sa.Text, nullable=name == "session_id")
            for name in ("event_id", "user_id", "session_id")
        ),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("recommendation_id", sa.Text),
        sa.Column("position", sa.Integer),
        sa.Column("propensity", sa.Double),
        sa.Column("policy_version", sa.Text),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "timestamp", "received_at", "event_id", name="events_pkey"),
        sa.UniqueConstraint("event_id", name="events_event_id_key"),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_table(
        "impressions",
        sa.Column("recommendation_id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("served_by", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("support_events", sa.Integer, nullable=False),
        sa.Column("slate", sa.Text, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_index("impressions_by_user", "impressions", ["user_id", "timestamp"], if_not_exists=True)
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("attributes", sa.Text, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )


def downgrade() -> None:
    """Refuse: what lies before is no store."""
    raise NotImplementedError("there is no store before this revision; delete the database instead")
