"""Baselines for text: logistic regression on n-grams, and a table of tags by context."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def classify_texts(
    texts: Sequence[str], labels: Sequence | np.ndarray, others: Sequence[str], **tfidf: Any
) -> np.ndarray:
    """Predict the labels of `others` by logistic regression on `TfidfVectorizer(**tfidf)`.

    All other options are the defaults of scikit-learn. The model is fitted to `texts` and `labels`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(**tfidf), LogisticRegression())
    return model.fit(texts, labels).predict(others)


def fit_back_off(
    texts: Sequence[tuple[Sequence[str], Sequence[int] | np.ndarray]], contexts: Sequence[range]
) -> Callable[[Sequence[str]], list[int]]:
    """Fit a tagger that returns the most frequent tag of a word in its context.

    It looks a word up with its neighbours in the first context. If this combination is new, it uses
    the next context. A word that is new in all contexts gets the tag 0.

    Args:
        texts: words and their tags.
        contexts: the relative positions of the words that are looked up together; `range(-1, 2)`
            has one neighbour on either side.

    Returns:
        A function from words to tags.
    """
    tables: list[dict[Any, Counter[int]]] = [defaultdict(Counter) for _ in contexts]

    def keys(words: Sequence[str], k: int) -> list[tuple[str, ...]]:
        return [
            tuple(words[k + d] if 0 <= k + d < len(words) else "" for d in context)
            for context in contexts
        ]

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
