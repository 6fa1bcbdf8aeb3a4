"""Whatever is sent, the status is one that the documentation declares and never a fault of the server."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_texts = st.text(max_size=8)
_asks = st.fixed_dictionaries(
    {"user": _texts | _anything},
    optional={
        "n": st.integers(-3, 300) | _anything,
        "exclude": st.lists(_texts, max_size=3) | _anything,
        "exclude_seen": st.booleans() | _anything,
        "session": _texts | _anything,
        "attributes": st.dictionaries(_texts, _texts, max_size=3) | _anything,
    },
)
_fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_fuzz
@given(body=_asks | _anything)
@example(body={"user": "\x00", "session": "\x00", "n": 200, "attributes": {"\x00": ""}})
@example(body={"user": "a", "n": 10**30})
def test_any_recommend_body(client, body):
    answer = client.post("/v1/recommend", json=body)
    assert answer.status_code in {200, 400, 422}
    assert ("items" in answer.json()) == (answer.status_code == 200)


@_fuzz
@given(body=st.binary(max_size=40))
def test_any_bytes(client, body):
    for path in ("/v1/recommend", "/v1/events"):
        assert client.post(path, content=body).status_code in {202, 400, 422}


@_fuzz
@given(
    user=st.text(min_size=1, max_size=300),
    event=st.dictionaries(st.sampled_from(["value", "timestamp"]), _anything),
)
@example(user="/", event={})
@example(user="a/events", event={"timestamp": 1e15})
def test_any_user(client, click, user, event):
    quoted = "".join(f"%{byte:02X}" for byte in user.encode())
    taken = client.post("/v1/events", json=click(user) | event).status_code
    listed = client.get(f"/v1/recommend/{quoted}").status_code
    assert (taken in {202, 422}, listed in {200, 404, 422}) == (True, True)
    if taken == 422:
        return  # nothing was kept
    assert client.get(f"/v1/users/{quoted}/events").status_code == 200
    assert client.delete(f"/v1/users/{quoted}").json()["user"] == user
    assert client.get(f"/v1/users/{quoted}/events").json()["events"] == []
