"""Every column name of the event, item and user tables, once."""

from typing import Final

# events
EVENT_ID: Final = "event_id"
USER_ID: Final = "user_id"
SESSION_ID: Final = "session_id"
TIMESTAMP: Final = "timestamp"
ITEM_ID: Final = "item_id"
EVENT_TYPE: Final = "event_type"
VALUE: Final = "value"
RECOMMENDATION_ID: Final = "recommendation_id"
POSITION: Final = "position"
PROPENSITY: Final = "propensity"
POLICY_VERSION: Final = "policy_version"

# items
TITLE: Final = "title"
CATEGORIES: Final = "categories"
CREATED_AT: Final = "created_at"
AVAILABLE: Final = "available"

# the value that stands for all rare ones of a user attribute
OTHER: Final = "other"

# event types
IMPRESSION: Final = "impression"
CLICK: Final = "click"
PURCHASE: Final = "purchase"
CANCELLATION: Final = "cancellation"
RATING: Final = "rating"
