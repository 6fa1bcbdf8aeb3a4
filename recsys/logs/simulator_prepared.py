"""What was shown in the simulated world as a prepared log in memory, in which every shown item is an action.

As with `prepare.impressions = "actions"`, a history's token is a shown item with its response; without one its event
type is `impression` and its reward 0. Responses stand at the time of what they answer. Lives are whole:
the end of a history is terminal, so whoever lowers the step limit of `simulate` calls lives over that were cut.
"""

from pathlib import Path

import numpy as np

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.logs.content import content_features
from recsys.logs.prepared import PreparedInfo, PreparedLog, Role
from recsys.logs.simulator import RESPONSES, World
from recsys.logs.simulator_stream import SEGMENT, Actions, items_table
from recsys.mdp.reward import rewarded_types
from recsys.types import IntArray

_FEATURES = 16


def prepared_actions(
    world: World,
    segment: IntArray,  # (user,)
    actions: Actions,  # of users 0 … len(segment) − 1
    validation_users: int = 0,  # the last ones
) -> PreparedLog:
    """Return the lives as histories, item and attribute codes as `prepare` gives them to the same log."""
    users = len(segment)
    if not 0 <= validation_users < users:
        raise UserError(f"validation_users is {validation_users}, must be below the {users} users; lower it")
    event_types = rewarded_types(RewardConfig())
    codes = np.array([event_types.index(name) for name in RESPONSES], np.int8)
    rewards = np.asarray(world.settings.response_reward, np.float32)
    lengths = np.bincount(actions.user, minlength=users)
    role = np.full(users, Role.TRAIN, np.int8)
    role[users - validation_users :] = Role.COLD_VALIDATION
    info = PreparedInfo(
        source=f"simulated world {world.seed}",
        event_types=event_types,
        user_attributes=(SEGMENT,),
        user_attribute_values=(tuple(f"{SEGMENT} {number}" for number in range(world.settings.segments)),),
        reward_base=dict(zip(RESPONSES, world.settings.response_reward, strict=True)),
        reward_per_log_value={},
        events=len(actions),
        items=world.settings.items,
        users=users,
        histories=users,
        sessions=int((actions.session[np.cumsum(lengths) - 1] + 1).sum()),
        quarantined={},
        first_event=str(np.datetime64(int(actions.timestamp.min()), "s")),
        last_event=str(np.datetime64(int(actions.timestamp.max()), "s")),
        test_from=None,
        validation_from=None,
        impressions=len(actions),
        impressions_are="actions",
    )
    return PreparedLog(
        root=Path("simulated"),
        info=info,
        content=content_features(items_table(world).drop_columns([c.TITLE]), _FEATURES, world.seed),
        user_attributes=(segment[:, None] + 1).astype(np.int32),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history_user=np.arange(users, dtype=np.int32),
        history_role=role,
        history_train_end=np.where(role == Role.TRAIN, lengths, 0).astype(np.int64),
        item=actions.item.astype(np.int32),
        event_type=codes[actions.response],
        reward=rewards[actions.response],
        timestamp=actions.timestamp,
        session=actions.session,
    )
