"""Small worlds for the simulator's tests."""

from dataclasses import replace

from recsys.logs.simulator import World, WorldSettings, make_world

SMALL = WorldSettings(
    items=40, types=3, topics=3, segments=2, memory=2, freshness=(1.0, 0.6, 0.2)
)  # 720 states


def small_world(seed: int = 3, **changes: object) -> World:
    return make_world(replace(SMALL, **changes), seed)
