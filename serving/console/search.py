"""Finds items by their titles: every word must begin a word of the title, or be the item's id."""

import re
from dataclasses import dataclass
from itertools import islice

from recsys.recommender import Recommender

_WORDS = re.compile(r"\w+")


@dataclass
class TitleSearch:
    """The catalogue's titles as one text to look through, made anew when the catalogue or the model changes."""

    _of: tuple[str, int] = ("", -1)
    _titles: tuple[tuple[int, str], ...] = ()

    def find(self, recommender: Recommender, text: str, n: int) -> list[int]:
        """Return at most n available items, the most popular first."""
        catalogue = recommender.catalogue
        state = recommender.version, catalogue.revision
        if self._of != state:
            order = recommender.popular(len(catalogue), seed=0).items  # the available ones
            self._titles = tuple((item, _spaced(catalogue.titles[item])) for item in order.tolist())
            self._of = state
        exact = catalogue.index_of.get(text.strip())
        found = [] if exact is None or not catalogue.available[exact] else [exact]
        words = [f" {word}" for word in _WORDS.findall(text.lower())]
        if not words:
            return found
        fits = (item for item, title in self._titles if item != exact and all(w in title for w in words))
        return [*found, *islice(fits, n - len(found))]


def _spaced(title: str) -> str:
    return " " + " ".join(_WORDS.findall(title.lower()))
