"""Simulated logs: the same however they are cut, true to their propensities, and read by `prepare`."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import LogConfig, PrepareConfig, SplitConfig
from recsys.errors import UserError
from recsys.logs.prepare import prepare
from recsys.logs.prepared import Role, open_prepared
from recsys.logs.schema import EVENTS
from recsys.logs.simulator_files import open_world, write_log
from recsys.logs.simulator_policies import LoggingSettings, logging_policy
from recsys.logs.simulator_prepared import prepared_actions
from recsys.logs.simulator_stream import items_table, simulate, stream_events
from recsys.randomness import numpy_generator
from tests.logs.simulator_worlds import small_world

BLOCK = 2048  # users whose chance is drawn together


def streamed(users, chunk_users, seed=5, world=None):
    world = world or small_world()
    chunks = list(stream_events(world, logging_policy(world), users, seed, chunk_users))
    return (
        pa.concat_tables([chunk.users for chunk in chunks]),
        pa.concat_tables([chunk.events for chunk in chunks]),
        [chunk.users.num_rows for chunk in chunks],
    )


@pytest.fixture(scope="module")
def whole():
    """Give the users and events of 2 100 lives, just over one block."""
    return streamed(BLOCK + 52, 10_000)


@pytest.mark.parametrize("chunk_users", [700, BLOCK, 2049])
def test_the_chunks_are_cuts_of_one_log(whole, chunk_users):
    users, events, sizes = streamed(BLOCK + 52, chunk_users)
    assert users.equals(whole[0])
    assert events.equals(whole[1])
    assert set(sizes[:-1]) == {chunk_users}
    assert sum(sizes) == BLOCK + 52


def test_a_longer_log_begins_with_the_users_of_a_shorter_one(whole):
    users, events, _ = streamed(30, 7)
    assert users.equals(whole[0].slice(0, 30))
    assert events.equals(whole[1].slice(0, events.num_rows))


def test_another_seed_gives_another_log(whole):
    assert not streamed(100, 100, seed=6)[1].equals(streamed(100, 100)[1])


def test_every_response_follows_its_impression(whole):
    events = whole[1]
    assert events.schema == EVENTS
    table = events.to_pylist()
    assert len({row["event_id"] for row in table}) == len(table)
    seen = {}
    for row in table[:5000]:
        if row["event_type"] == "impression":
            assert 0 < row["propensity"] <= 1
            assert row["position"] == 0
            assert row["policy_version"].startswith("logging")
            seen[row["recommendation_id"]] = row
        else:
            shown = seen.pop(row["recommendation_id"])  # once
            assert row["timestamp"] > shown["timestamp"]
            assert all(row[name] == shown[name] for name in ("user_id", "session_id", "item_id"))
            assert row["propensity"] is None


def test_times_rise_and_a_session_stands_in_one_piece(whole):
    table = whole[1].select(["user_id", "session_id", "timestamp"]).to_pandas()
    assert (table.groupby("user_id")["timestamp"].diff().dropna().dt.total_seconds() >= 0).all()
    begins = table["session_id"] != table["session_id"].shift()
    assert begins.sum() == table["session_id"].nunique()
    within = table.groupby("session_id")["timestamp"].diff().dropna().dt.total_seconds()
    assert within.max() <= 120


def test_logged_propensities_are_unbiased(whole):
    """The mean of 1 / (items · propensity) is 1, for all items and for one."""
    events = whole[1].filter(pa.array(np.asarray(whole[1]["propensity"].is_valid())))
    weight = 1.0 / (40 * events["propensity"].to_numpy())
    error = weight.std() / np.sqrt(len(weight))
    assert weight.mean() == pytest.approx(1.0, abs=4 * error)
    assert error < 0.01
    one = np.asarray(events["item_id"].to_numpy(zero_copy_only=False) == "i07") * weight * 40
    assert one.mean() == pytest.approx(1.0, abs=4 * one.std() / np.sqrt(len(one)))


def test_prepare_reads_the_folder_with_the_worlds_indices(tmp_path):
    world = small_world(items=120)  # ids of three digits: their order by alphabet is that of the indices
    log = write_log(world, LoggingSettings(), 300, 5, tmp_path / "log", chunk_users=90)
    config = PrepareConfig(log=LogConfig(path=tmp_path / "log"), split=SplitConfig(kind="users"))
    info = prepare(config, 7, tmp_path / "prepared")
    assert (info.events, info.impressions, info.items, info.users) == (log.events, log.impressions, 120, 300)
    assert info.quarantined == {}
    assert info.user_attribute_values == (("segment 0", "segment 1"),)
    items = pq.read_table(tmp_path / "prepared" / "items.parquet")
    assert items["item_id"].to_pylist() == items_table(world)["item_id"].to_pylist()
    assert items["categories"].to_pylist()[7] == [
        f"topic {world.topic[7]}",
        ("bait", "plain", "lasting")[world.kind[7]],
    ]
    assert set(np.unique(open_prepared(tmp_path / "prepared").reward)) == {np.float32(0.2), np.float32(1.0)}
    opened, logging = open_world(tmp_path / "log")
    assert np.array_equal(opened.appeal, world.appeal)
    assert logging == LoggingSettings()


def test_lives_become_histories_in_which_every_shown_item_is_an_action():
    world = small_world()
    segment, actions = simulate(world, logging_policy(world), 50, np.random.default_rng(0), 30.0)
    log = prepared_actions(world, segment, actions, validation_users=10)
    assert len(log.item) == len(actions) == log.history_offsets[-1]
    assert log.with_role(Role.COLD_VALIDATION).tolist() == list(range(40, 50))
    names = np.array(log.info.event_types)[log.event_type]
    told = dict(zip(names.tolist(), log.reward.tolist(), strict=True))
    assert (told["impression"], told["click"], told["purchase"]) == (0.0, np.float32(0.2), 1.0)
    for user in (0, 17, 49):
        part = slice(log.history_offsets[user], log.history_offsets[user + 1])
        mine = actions.user == user
        assert np.array_equal(log.item[part], actions.item[mine])
        assert np.array_equal(log.timestamp[part], actions.timestamp[mine])
        assert log.user_attributes[user, 0] == segment[user] + 1


def test_a_log_from_disk_as_actions_has_the_histories_of_the_same_actions_in_memory(tmp_path):
    world = small_world(items=120)
    segment, actions = simulate(
        world, logging_policy(world), BLOCK, numpy_generator(5, "simulated users from 0"), 90.0
    )
    memory = prepared_actions(world, segment[:300], actions.of_users(0, 300))
    write_log(world, LoggingSettings(), 300, 5, tmp_path / "log", chunk_users=90)
    config = PrepareConfig(
        log=LogConfig(path=tmp_path / "log"),
        split=SplitConfig(kind="users", test_share=0.0, validation_share=0.0),
        impressions="actions",
    )
    prepare(config, 7, tmp_path / "prepared")
    disk = open_prepared(tmp_path / "prepared")
    assert (disk.info.impressions, disk.info.sessions) == (memory.info.impressions, memory.info.sessions)
    assert disk.info.event_types == memory.info.event_types
    assert disk.info.shown_type == memory.info.shown_type == disk.info.event_types.index("impression")
    # `prepare` orders users by a hash of their ids
    names = pq.read_table(disk.root / "users.parquet")["user_id"].to_pylist()
    place = {int(name[1:]): number for number, name in enumerate(names)}
    history = np.argsort(disk.history_user)
    assert len(history) == 300
    for user in range(300):
        at = history[place[user]]
        on_disk = slice(*disk.history_offsets[at : at + 2])
        in_memory = slice(*memory.history_offsets[user : user + 2])
        for name in ("item", "event_type", "reward", "session"):
            assert np.array_equal(getattr(disk, name)[on_disk], getattr(memory, name)[in_memory]), name
        # a response stands where it came, 3 s after what it answers
        waited = disk.timestamp[on_disk] - memory.timestamp[in_memory]
        assert np.array_equal(waited, 3 * (disk.event_type[on_disk] != disk.info.shown_type))
        assert np.array_equal(disk.user_attributes[place[user]], memory.user_attributes[user])


def test_folders_of_another_origin_are_left_alone(tmp_path):
    world = small_world()
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="holds files of another origin"):
        write_log(world, LoggingSettings(), 5, 5, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match=r"is a file, must be a folder"):
        write_log(world, LoggingSettings(), 5, 5, tmp_path / "mine.txt")
    with pytest.raises(UserError, match=r"no world\.json in"):
        open_world(tmp_path)
    (tmp_path / "world.json").write_text("{}")
    with pytest.raises(UserError, match=r"world\.json is damaged"):
        open_world(tmp_path)


def test_writing_again_leaves_nothing_of_the_log_before(tmp_path):
    world = small_world()
    write_log(world, LoggingSettings(), 300, 5, tmp_path, chunk_users=100)
    log = write_log(world, LoggingSettings(), 20, 5, tmp_path, chunk_users=100)
    assert pq.read_table(tmp_path / "events").num_rows == log.events
    assert pq.read_table(tmp_path / "users.parquet").num_rows == 20


@pytest.mark.parametrize(
    "changes", [{"users": 0}, {"chunk_users": 0}, {"arrival_days": -1.0}, {"max_steps": 0}]
)
def test_impossible_sizes_are_refused(changes):
    world = small_world()
    with pytest.raises(UserError, match=rf"{next(iter(changes))} is .*, must be at least"):
        next(stream_events(world, logging_policy(world), **({"users": 5, "seed": 1} | changes)))


@pytest.mark.parametrize("changes", [{"users": 0}, {"max_steps": 0}])
def test_a_log_of_nobody_is_refused(changes):
    world = small_world()
    asked = {"users": 5, "generator": numpy_generator(0, "log"), "arrival_days": 1.0, **changes}
    with pytest.raises(UserError, match=f"{next(iter(changes))} is 0, must be at least 1"):
        simulate(world, logging_policy(world), **asked)
