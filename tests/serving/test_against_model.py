"""Any order of items, users, events, merges and lists agrees with plain dictionaries."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from serving.app import create_app
from serving.settings import Settings
from tests.factories import write_tiny_bundle
from tests.serving.app_client import AppClient

USERS = st.sampled_from(["u", "v", "w"])
ITEMS = st.sampled_from(["i0", "i1", "i2", "i3", "n0", "n1"])
GROUPS = st.sampled_from(["group 0", "group 1", "own"])


class EndpointAgainstModel(RuleBasedStateMachine):
    """What is kept, and so what may be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.events: dict[str, tuple[str, str]] = {}  # id -> user, item
        self.attributes: dict[str, dict[str, str]] = {}
        self.items: dict[str, tuple[str, bool]] = {f"i{n}": (f"group {n % 3}", True) for n in range(40)}
        self.ever: set[str] = set(self.items)

    @initialize()
    def start(self) -> None:
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = write_tiny_bundle(folder / "v1")
        app = create_app(Settings(auth="off", bundle=bundle, store=folder / "s.sqlite", log="off"))
        self.client = self.stack.enter_context(AppClient(app))

    @rule(item=ITEMS, group=GROUPS, available=st.booleans())
    def put(self, item, group, available):
        body = {"title": "x", "categories": [group], "available": available}
        assert self.client.put(f"/v1/items/{item}", json=body).status_code == 200
        self.items[item] = (group, available)
        self.ever.add(item)

    @rule(item=ITEMS, available=st.booleans())
    def patch(self, item, available):
        answer = self.client.patch(f"/v1/items/{item}", json={"available": available})
        assert answer.status_code == (200 if item in self.items else 404)
        if item in self.items:
            self.items[item] = (self.items[item][0], available)

    @rule(item=ITEMS)
    def take_out(self, item):
        assert self.client.delete(f"/v1/items/{item}").status_code == (200 if item in self.items else 404)
        self.items.pop(item, None)

    @rule(user=USERS, item=ITEMS, number=st.integers(0, 15))
    def send(self, user, item, number):
        event = {"user": user, "item_id": item, "event_type": "click", "event_id": f"e{number}"}
        told = self.client.post("/v1/events", json=event).json()
        known = item in self.ever
        new = known and f"e{number}" not in self.events
        assert (told["accepted"], told["duplicates"], len(told["rejected"])) == (
            new,
            known and not new,
            not known,
        )
        if new:
            self.events[f"e{number}"] = (user, item)

    @rule(user=USERS, country=st.sampled_from(["UK", "France"]))
    def know(self, user, country):
        assert (
            self.client.put(f"/v1/users/{user}", json={"attributes": {"country": country}}).status_code == 200
        )
        self.attributes[user] = {"country": country}

    @rule(user=USERS)
    def forget(self, user):
        mine = [key for key, (owner, _) in self.events.items() if owner == user]
        gone = self.client.delete(f"/v1/users/{user}").json()
        assert (gone["events"], set(gone["remaining"].values())) == (len(mine), {0})
        for key in mine:
            del self.events[key]
        self.attributes.pop(user, None)

    @rule(user=USERS, other=USERS)
    def merge(self, user, other):
        answer = self.client.post(f"/v1/users/{user}/merge/{other}")
        assert answer.status_code == (422 if user == other else 200)
        if user == other:
            return
        self.events = {k: (user if owner == other else owner, i) for k, (owner, i) in self.events.items()}
        if other in self.attributes:
            self.attributes[user] = {**self.attributes.pop(other), **self.attributes.get(user, {})}

    @rule(user=USERS, group=st.none() | GROUPS, seen=st.booleans())
    def recommend(self, user, group, seen):
        """Everything that may be shown is, and nothing else."""
        wanted = {} if group is None else {"filter": {"categories": [group]}}
        body = {"user": user, "n": 60, "exclude_seen": not seen, "deadline_ms": 60_000, **wanted}
        answer = self.client.post("/v1/recommend", json=body).json()
        had = {item for owner, item in self.events.values() if owner == user}
        may = {
            item
            for item, (where, available) in self.items.items()
            if available and group in (None, where) and (seen or item not in had)
        }
        assert {item["item_id"] for item in answer["items"]} == may
        assert answer["support_events"] == min(20, sum(owner == user for owner, _ in self.events.values()))

    @rule(user=USERS)
    def read(self, user):
        told = self.client.get(f"/v1/users/{user}").json()
        assert told["attributes"] == self.attributes.get(user, {})
        assert told["events"] == sum(owner == user for owner, _ in self.events.values())

    def teardown(self):
        self.stack.close()


TestEndpointAgainstModel = EndpointAgainstModel.TestCase
TestEndpointAgainstModel.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
