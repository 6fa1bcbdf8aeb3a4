"""The library of metaq; what a notebook begins with stands here, the rest in its rooms."""

from recsys.loading import load_bundle as load_bundle
from recsys.loading import load_events as load_events
from recsys.loading import load_items as load_items
from recsys.loading import load_recommender as load_recommender
from recsys.loading import load_users as load_users
