"""Keys that are added or removed while the endpoint runs."""

import logging
import os

from serving.security import Keys, add_key, remove_key


def test_keys_come_and_go_with_the_file(tmp_path, caplog):
    path = tmp_path / "keys.json"
    first = add_key(path, "first", ["read"])
    keys = Keys(path, every_s=0.0)
    assert keys.caller(first.encode()).name == "first"
    second = add_key(path, "second", ["admin"])
    assert keys.caller(second.encode()).scopes == {"admin"}
    remove_key(path, "first")
    assert keys.caller(first.encode()) is None
    remove_key(path, "second")
    assert keys.caller(second.encode()) is None  # nobody is let in
    third = add_key(path, "third", ["read"])
    assert keys.caller(third.encode()) is not None
    with caplog.at_level(logging.ERROR):
        path.write_text("half a fi")
        assert keys.caller(third.encode()) is not None  # a damaged file lets nobody out
        os.unlink(path)
        assert keys.caller(third.encode()) is not None
    assert "the keys that were read before stay" in caplog.text
    assert "is gone" in caplog.text
    assert third not in caplog.text


def test_the_file_is_not_looked_at_for_every_request(tmp_path):
    path = tmp_path / "keys.json"
    add_key(path, "first", ["read"])
    keys = Keys(path, every_s=3_600.0)
    late = add_key(path, "late", ["read"])
    assert keys.caller(late.encode()) is None
