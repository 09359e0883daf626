"""Classical methods for text, to compare with: those of scikit-learn as they come."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def classify_texts(
    texts: Sequence[str], labels: Sequence | np.ndarray, others: Sequence[str], **tfidf: Any
) -> np.ndarray:
    """Labels for other texts, by logistic regression on what `TfidfVectorizer(**tfidf)` counts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(**tfidf), LogisticRegression())
    return model.fit(texts, labels).predict(others)


def fit_back_off(
    texts: Sequence[tuple[Sequence[str], Sequence[int] | np.ndarray]], contexts: Sequence[range]
) -> Callable[[Sequence[str]], list[int]]:
    """A tagger that looks a word up among words whose tags are known, and takes the most frequent.

    It looks the word up with its neighbours in the first context, `range(-1, 2)` for one on either
    side, and if that was never seen in the next one. A word that is new has the tag 0.
    """
    tables: list[dict[Any, Counter[int]]] = [defaultdict(Counter) for _ in contexts]

    def keys(words: Sequence[str], k: int) -> list[tuple[str, ...]]:
        around = [
            [words[k + d] if 0 <= k + d < len(words) else "" for d in context]
            for context in contexts
        ]
        return [tuple(context) for context in around]

    for words, tags in texts:
        for k, tag in enumerate(tags):
            for table, key in zip(tables, keys(words, k), strict=True):
                table[key][int(tag)] += 1

    def tags_of(words: Sequence[str]) -> list[int]:
        found = []
        for k in range(len(words)):
            seen = (t[key] for t, key in zip(tables, keys(words, k), strict=True) if key in t)
            found.append(next(seen, Counter([0])).most_common(1)[0][0])
        return found

    return tags_of
