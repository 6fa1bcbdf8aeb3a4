"""A world with known truth: users whose tastes, satiation, boredom and trust decide what they do with an item.

The whole state of a user is (type, recent, trust, boredom), few enough that the best policy is computed exactly
(simulator_values). A shown item i of topic t and kind k is responded to with probability

    p(s, i) = taste[type, t] · freshness[n_t(recent)] · trust_response[trust] · attraction[k] · appeal[type, i]

where n_t counts t among the topics shown last: satiation. A response is a purchase with probability purchase_share[k],
else a click; it ends boredom and moves trust by trust_step[k] with probability trust_move[k]: the lasting effect. No
response raises boredom by one. The session then ends with probability session_end[boredom]; after that the user comes
back, rested, with probability return_share[trust], or is gone for good: terminal.
"""

from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys import columns as c
from recsys.errors import UserError
from recsys.randomness import numpy_generator
from recsys.types import BoolArray, ByteArray, IntArray, LongArray

RealArray = npt.NDArray[np.float64]
Numbers = tuple[float, ...]

KINDS: Final = ("bait", "plain", "lasting")
RESPONSES: Final = (
    c.IMPRESSION,
    c.CLICK,
    c.PURCHASE,
)  # code of a response -> event type; 0 = shown, no response
NONE: Final = 0
CLICK: Final = 1
PURCHASE: Final = 2


@dataclass(frozen=True)
class WorldSettings:
    """What a world is made of; every number of the dynamics, per kind in the order of KINDS."""

    items: int = 1000
    types: int = 6
    topics: int = 6
    segments: int = 3  # what is known of a user beforehand: a noisy grouping of the types
    segment_fidelity: float = 0.8
    memory: int = 3  # topics shown last that satiate
    liked_taste: tuple[float, float] = (0.85, 1.0)  # a type likes two topics
    other_taste: tuple[float, float] = (0.15, 0.45)
    item_quality: tuple[float, float] = (0.4, 0.9)  # of an item, whoever sees it
    personal_appeal: float = 0.1  # ± around it, by type
    freshness: Numbers = (1.0, 0.7, 0.4, 0.15)  # by count in memory
    attraction: Numbers = (0.92, 0.65, 0.7)
    purchase_share: Numbers = (0.0, 0.02, 0.05)
    trust_step: tuple[int, ...] = (-1, 0, 1)
    trust_move: Numbers = (0.8, 0.0, 0.8)
    trust_response: Numbers = (0.69, 0.78, 0.86, 0.93, 1.0)  # by trust
    return_share: Numbers = (0.76, 0.77, 0.78, 0.79, 0.8)  # by trust
    first_trust: int = 2
    session_end: Numbers = (0.05, 0.1, 0.18)  # by boredom
    response_reward: Numbers = (0.0, 0.2, 1.0)  # by response
    impression_gap_s: tuple[int, int] = (20, 120)
    rest_hours: tuple[float, float] = (6.0, 40.0)  # between sessions: at least, and the mean of what is added

    def __post_init__(self) -> None:
        _check(self)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(type, recent, trust, boredom): how many values each part of a user's state takes."""
        recent = int((self.topics + 1) ** self.memory)
        return self.types, recent, len(self.trust_response), len(self.session_end)


@dataclass(frozen=True)
class UserState:
    """The hidden state of some users; every array has shape (user,)."""

    type: IntArray
    segment: IntArray  # known to everybody
    recent: IntArray  # the topics shown last, as a number to base topics + 1; 0 = none
    trust: IntArray
    boredom: IntArray

    def __len__(self) -> int:
        return len(self.type)

    def at(self, rows: npt.NDArray[np.integer] | BoolArray) -> "UserState":
        """Return some of the users."""
        return UserState(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})

    def put(self, rows: npt.NDArray[np.integer], others: "UserState") -> "UserState":
        """Return the users with those at `rows` taken from `others`, in order."""
        changed = {}
        for part in fields(self):
            changed[part.name] = getattr(self, part.name).copy()
            changed[part.name][rows] = getattr(others, part.name)
        return UserState(**changed)

    @property
    def hidden(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Index of the users' states into arrays of (type, recent, trust, boredom)."""
        return self.type, self.recent, self.trust, self.boredom


@dataclass(frozen=True)
class Outcome:
    """What one item shown to each user led to; arrays of shape (user,)."""

    users: UserState  # afterwards; of those who are gone it means nothing
    response: ByteArray  # code into RESPONSES
    reward: RealArray
    session_ended: BoolArray
    terminated: BoolArray  # gone for good
    gap_s: LongArray  # until the next item is shown


@dataclass(frozen=True)
class World:
    """Tastes, a catalogue and the rules above: all that decides what happens, but chance."""

    settings: WorldSettings
    seed: int
    taste: RealArray  # (type, topic)
    topic: IntArray  # (item,)
    kind: IntArray  # (item,)
    appeal: RealArray  # (type, item)
    segment_share: RealArray  # (type, segment), P(segment | type)
    count: IntArray = field(repr=False)  # (recent, topic), n_t
    after: IntArray = field(repr=False)  # (recent, topic), `recent` once the topic has been shown

    @property
    def type_share(self) -> RealArray:
        """P(type | segment), (type, segment); uniform in a segment that no type falls into."""
        of_segment = self.segment_share.sum(axis=0)
        found = self.segment_share / np.where(of_segment > 0, of_segment, 1.0)
        share: RealArray = np.where(of_segment > 0, found, 1.0 / self.settings.types)
        return share

    def begin(self, users: int, generator: np.random.Generator) -> UserState:
        """Return new users: types uniform, segments from P(segment | type), fresh and of the first trust."""
        kinds = generator.integers(self.settings.types, size=users).astype(np.int32)
        cumulative = np.cumsum(self.segment_share, axis=1)
        draw = generator.random(users)
        segment = (draw[:, None] >= cumulative[kinds, :-1]).sum(axis=1).astype(np.int32)
        nothing = np.zeros(users, np.int32)
        trust = np.full(users, self.settings.first_trust, np.int32)
        return UserState(kinds, segment, nothing, trust, nothing)

    def response_probability(self, users: UserState, item: npt.NDArray[np.integer]) -> RealArray:
        """Return p(s, i) of one item for each user, (user,)."""
        topic, kind = self.topic[item], self.kind[item]
        rules = self.settings
        probability: RealArray = (
            self.taste[users.type, topic]
            * np.asarray(rules.freshness)[self.count[users.recent, topic]]
            * np.asarray(rules.trust_response)[users.trust]
            * np.asarray(rules.attraction)[kind]
            * self.appeal[users.type, item]
        )
        return probability

    def step(
        self, users: UserState, item: npt.NDArray[np.integer], generator: np.random.Generator
    ) -> Outcome:
        """Show one item to each user and draw what follows."""
        rules = self.settings
        topic, kind = self.topic[item], self.kind[item]
        by_response, by_trust, by_end, by_return, by_gap = generator.random((5, len(users)))
        probability = self.response_probability(users, item)
        responded = by_response < probability
        bought = by_response < probability * np.asarray(rules.purchase_share)[kind]
        response = responded.astype(np.int8) + bought
        moved = responded & (by_trust < np.asarray(rules.trust_move)[kind])
        trust = users.trust + moved * np.asarray(rules.trust_step, np.int32)[kind]
        trust = np.clip(trust, 0, len(rules.trust_response) - 1)
        boredom = np.where(responded, 0, np.minimum(users.boredom + 1, len(rules.session_end) - 1))
        ended = by_end < np.asarray(rules.session_end)[boredom]
        gone = ended & (by_return >= np.asarray(rules.return_share)[trust])
        recent = np.where(ended, 0, self.after[users.recent, topic])
        boredom = np.where(ended, 0, boredom)
        after = UserState(users.type, users.segment, _narrow(recent), _narrow(trust), _narrow(boredom))
        reward = np.asarray(rules.response_reward)[response]
        return Outcome(after, response, reward, ended, gone, self._gaps(ended, by_gap))

    def _gaps(self, ended: BoolArray, draw: RealArray) -> LongArray:
        """Return seconds: uniform inside a session, a rest with an exponential tail between two."""
        shortest, longest = self.settings.impression_gap_s
        gap = shortest + (draw * (longest - shortest + 1)).astype(np.int64)
        least, mean = self.settings.rest_hours
        gap[ended] = (3600.0 * (least - mean * np.log1p(-draw[ended]))).astype(np.int64)
        return gap


def make_world(settings: WorldSettings, seed: int) -> World:
    """Return the world that a seed draws: the same seed, the same world."""
    generator = numpy_generator(seed, "simulator world")
    types, topics, items = settings.types, settings.topics, settings.items
    taste = generator.uniform(*settings.other_taste, size=(types, topics))
    liked = generator.uniform(*settings.liked_taste, size=(types, 2))
    row = np.arange(types)
    for place, shift in enumerate((0, 1 + topics // 3)):  # the two topics that a type likes
        taste[row, (row + shift) % topics] = liked[:, place]
    classes = topics * len(KINDS)
    item_class = generator.permutation(np.arange(items) % classes)
    quality = generator.uniform(*settings.item_quality, size=items)
    personal = generator.uniform(-1.0, 1.0, size=(types, items)) * settings.personal_appeal
    segment = np.full((types, settings.segments), (1.0 - settings.segment_fidelity) / settings.segments)
    segment[row, row % settings.segments] += settings.segment_fidelity
    recent = np.arange(settings.shape[1])
    base = topics + 1
    digits = recent[:, None] // base ** np.arange(settings.memory) % base  # (recent, memory)
    return World(
        settings=settings,
        seed=seed,
        taste=taste,
        topic=_narrow(item_class // len(KINDS)),
        kind=_narrow(item_class % len(KINDS)),
        appeal=np.clip(quality + personal, 0.0, 1.0),
        segment_share=segment,
        count=_narrow((digits[:, None, :] == np.arange(1, base)[:, None]).sum(axis=2)),
        after=_narrow((recent[:, None] * base + np.arange(1, base)) % len(recent)),
    )


def _narrow(values: npt.NDArray[np.integer]) -> IntArray:
    return values.astype(np.int32, copy=False)


def _check(settings: WorldSettings) -> None:
    """Raise UserError for a world that cannot be: counts, lengths, probabilities."""
    for name, least in (("items", 1), ("types", 1), ("topics", 1), ("segments", 1), ("memory", 1)):
        if getattr(settings, name) < least:
            raise UserError(
                f"{name} is {getattr(settings, name)}, must be at least {least}; give more {name}"
            )
    states = int(np.prod([float(size) for size in settings.shape]))
    if states > _MOST_STATES:
        raise UserError(
            f"the world has {states:,} states, must be at most {_MOST_STATES:,}; lower topics, memory or types"
        )
    lengths = {
        "freshness": settings.memory + 1,
        "return_share": len(settings.trust_response),
        "response_reward": len(RESPONSES),
        **dict.fromkeys(("attraction", "purchase_share", "trust_step", "trust_move"), len(KINDS)),
    }
    for name, length in lengths.items():
        if len(getattr(settings, name)) != length:
            raise UserError(
                f"{name} has {len(getattr(settings, name))} numbers, must have {length}; add or remove some"
            )
    for name in _PROBABILITIES:
        if not all(0.0 <= share <= 1.0 for share in np.ravel(getattr(settings, name))):
            raise UserError(f"{name} is {getattr(settings, name)}, must lie in 0 to 1; change it")
    if not 0 <= settings.first_trust < len(settings.trust_response):
        raise UserError(
            f"first_trust is {settings.first_trust}, must be below {len(settings.trust_response)}; lower it"
        )
    if min(settings.session_end) <= 0.0 or max(settings.return_share) >= 1.0:
        raise UserError(
            f"session_end {settings.session_end} must be above 0 and return_share {settings.return_share} below 1; "
            "else some users never leave and returns have no end"
        )


_MOST_STATES: Final = 2_000_000
_PROBABILITIES: Final = (
    "segment_fidelity", "liked_taste", "other_taste", "item_quality", "personal_appeal", "freshness", "attraction",
    "purchase_share", "trust_move", "trust_response", "return_share", "session_end",
)  # fmt: skip
