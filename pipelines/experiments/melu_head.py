"""The ranker's inner loop on explicit ratings: a Bayesian linear head over item features learnt through its own solve.

r(u, i) = b_i + w_uᵀφ(i) with w_u from AdaptationPrior.adapt, the code that ranks and serves; evidence of a rating is
what it says beyond b_i. φ(i) and b_i are an id part plus a linear map of content; the content holds a one, so that a
user's level is one of the features. In half of the batches most ids are hidden, so that content and the ids of
earlier films of the series must do: that is what a new item is. A user's start w_0 comes from attributes and from the
set of rated pairs (amortised_prior.py).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipelines.experiments.melu_data import FEWEST, Movies, Ratings, Tasks
from recsys.adaptation import NO_DECAY, AdaptationPrior, SupportSet
from recsys.learning.optimizer import grouped_optimizer, step
from recsys.types import FloatArray, IntArray

MOST_SUPPORT, MIDDLE = 90, 3.5  # ratings told at most; the rating that reads as reward 0


@dataclass(frozen=True)
class HeadSettings:
    """How the head is learnt; chosen on validation users and validation items."""

    features: int = 32
    amortised: int = 32
    epochs: int = 12
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    hidden_ids: float = 0.8  # share of ids hidden in every second batch
    query: int = 20
    most: int | None = None  # learns from users of so many ratings at most, FEWEST at least; none = from all


class RatingHead(nn.Module):
    """Item side and prior."""

    known: torch.Tensor
    content: torch.Tensor
    earlier: torch.Tensor

    def __init__(self, movies: Movies, ratings: Ratings, settings: HeadSettings) -> None:
        super().__init__()
        items, features = movies.content.shape
        count = np.bincount(ratings.item, minlength=items)
        mean = float(ratings.rating.mean())
        bias = np.bincount(ratings.item, weights=ratings.rating - mean, minlength=items) / (count + 5.0)
        self.register_buffer("known", torch.from_numpy(count > 0))
        self.register_buffer("content", torch.from_numpy(movies.content))
        self.register_buffer("earlier", torch.from_numpy(movies.earlier).long())
        self.likeness = nn.Parameter(torch.full((2,), 0.5))  # of a new film to films before it: taste, bias
        self.id = nn.Parameter(torch.randn(items, settings.features) * 0.05)
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        self.mean = nn.Parameter(torch.tensor(mean))
        self.map = nn.Linear(features, settings.features, bias=False)
        nn.init.normal_(self.map.weight, std=0.05)
        self.bias_map = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.bias_map.weight)
        self.prior = AdaptationPrior(settings.features, 1, movies.attribute_sizes, settings.amortised)
        with torch.no_grad():
            self.prior.log_decay.fill_(NO_DECAY)  # the order of ratings says nothing here

    def item(
        self, item: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (φ, b) of items of any shape; ids of new and of `hidden` items, (item,), do not speak."""
        speaks = self.known[item] if hidden is None else self.known[item] & ~hidden[item]
        content, before = self.content[item], self.earlier[item]
        told = (before >= 0) & self.known[before] & ~speaks[..., None]  # a film that speaks needs no other
        share = told / told.sum(dim=-1, keepdim=True).clamp(min=1)
        own = self.id[item] * speaks[..., None]
        alike = self.likeness[0] * (self.id[before] * share[..., None]).sum(dim=-2)
        bias = self.bias[item] * speaks + self.likeness[1] * (self.bias[before] * share).sum(dim=-1)
        return own + alike + self.map(content), self.mean + self.bias_map(content)[..., 0] + bias

    def forward(
        self,
        attributes: torch.Tensor,  # (task, attribute)
        told: tuple[torch.Tensor, torch.Tensor, torch.Tensor],  # item, rating, present; (task, support)
        asked: torch.Tensor,  # (task, query)
        hidden: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the guessed ratings, (task, query)."""
        item, rating, present = told
        phi, bias = self.item(item, hidden)
        nothing = torch.zeros_like(rating)
        support = SupportSet(
            item,
            torch.zeros_like(item),
            rating - MIDDLE,
            rating - bias,
            nothing,
            nothing,
            present,
            attributes,
        )
        fast = self.prior.adapt(phi, support).mean
        phi, bias = self.item(asked, hidden)
        return torch.as_tensor(bias + (phi * fast[:, None]).sum(-1))

    @torch.no_grad()
    def guess(self, movies: Movies, asked: Tasks, shots: int | None = None, at_once: int = 256) -> FloatArray:
        """Return the guess of every query, (task, 10), from all ratings told, or from the first `shots`."""
        found = []
        for start in range(0, len(asked), at_once):
            part = slice(start, start + at_once)
            told = padded([(items[:shots], values[:shots]) for items, values in asked.support[part]])
            attributes = torch.from_numpy(movies.attributes[asked.user[part]])
            found.append(self(attributes, told, torch.from_numpy(asked.item[part]).long()).numpy())
        return np.concatenate(found)


def padded(rows: list[tuple[IntArray, FloatArray]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (item, rating, present) of rows of unequal length, (row, longest)."""
    lengths = np.array([len(items) for items, _ in rows])
    present = np.arange(max(1, lengths.max())) < lengths[:, None]
    item, rating = np.zeros(present.shape, np.int64), np.zeros(present.shape, np.float32)
    item[present] = np.concatenate([items for items, _ in rows])
    rating[present] = np.concatenate([values for _, values in rows])
    return torch.from_numpy(item), torch.from_numpy(rating), torch.from_numpy(present)


def learn(
    movies: Movies, ratings: Ratings, settings: HeadSettings, generator: np.random.Generator
) -> RatingHead:
    """Return a head that has learnt from users' ratings, split anew in every pass into what is told and asked."""
    if settings.most is not None:
        ratings = ratings.of_users_with(FEWEST, settings.most)
    head = RatingHead(movies, ratings, settings)
    frozen = {id(head.prior.log_decay), id(head.prior.growth), id(head.prior.mix_logit)}
    free = [(name, p) for name, p in head.named_parameters() if id(p) not in frozen]
    matrices = [p for _, p in free if p.ndim > 1]
    optimizer = grouped_optimizer(
        [
            (matrices, settings.learning_rate, settings.weight_decay),
            ([p for _, p in free if p.ndim <= 1], settings.learning_rate, 0.0),
        ]
    )
    people = {user: rated for user, rated in ratings.by_user().items() if len(rated[0]) >= 6}
    users = np.array(list(people))
    for epoch in range(settings.epochs):
        order = generator.permutation(users)
        for start in range(0, len(order), settings.batch):
            chosen = order[start : start + settings.batch]
            told, asked = zip(
                *(_split(people[user], settings.query, generator) for user in chosen), strict=True
            )
            item, rating, present = padded(list(asked))
            hidden = None
            if generator.random() < 0.5:
                hidden = torch.from_numpy(generator.random(len(movies.content)) < settings.hidden_ids)
            guess = head(torch.from_numpy(movies.attributes[chosen]), padded(list(told)), item, hidden)
            loss = ((guess - rating).square() * present).sum() / present.sum()
            step(optimizer, loss, 1.0 - epoch / settings.epochs, None)
    return head.eval()


Rated = tuple[IntArray, FloatArray]


def _split(rated: Rated, most_query: int, generator: np.random.Generator) -> tuple[Rated, Rated]:
    """Return (told, asked): a number of told ratings drawn log-uniformly, as users differ."""
    items, values = rated
    order = generator.permutation(len(items))
    asked = order[: min(most_query, len(items) // 2)]
    left = order[len(asked) :]
    shots = int(np.exp(generator.random() * np.log(min(MOST_SUPPORT, len(left)) + 1)))
    told = left[: max(1, min(shots, len(left)))]
    return (items[told], values[told]), (items[asked], values[asked])
