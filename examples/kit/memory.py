"""Tasks that need a long memory: the adding problem, and digits pixel by pixel."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import jaxrnn
from jaxrnn import diagnostics

ADDING, DIGITS, PERMUTED = "adding", "digits", "digits, permuted"
LENGTH = 100  # of a sequence of the adding problem


class Data(NamedTuple):
    """Sequences and their targets: numbers, or classes."""

    xs: np.ndarray  # [sequences, time, features]
    targets: np.ndarray  # [sequences]


class Task(NamedTuple):
    """The data of a task: regression, or classification."""

    train: Data
    validation: Data
    held_out: Data
    classes: int  # 1 for regression


def adding(seed: int, count: int) -> Data:
    """Draw sequences of numbers in [0, 1], two of which are marked; the target is their sum.

    One number of each half is marked.
    """
    rng, rows = np.random.default_rng(seed), np.arange(count)
    xs = np.zeros((count, LENGTH, 2), np.float32)
    xs[..., 0] = rng.random((count, LENGTH))
    first, second = rng.integers(0, LENGTH // 2, (2, count))
    marked = first, second + LENGTH // 2
    for at in marked:
        xs[rows, at, 1] = 1
    return Data(xs, xs[rows, marked[0], 0] + xs[rows, marked[1], 0])


def digits(seed: int, permuted: bool) -> Task:
    """Load scikit-learn's digits, one pixel for each step.

    A fifth is held out, and a fifth is for validation. With `permuted`, the pixels have a random
    order, which is the same for all digits.
    """
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.default_rng(seed).permutation(len(images))
    pixels = np.random.default_rng(1).permutation(64) if permuted else np.arange(64)
    xs = (images[order][:, pixels, None] / 16).astype(np.float32)
    cuts = np.split(np.arange(len(order)), [len(order) // 5, 2 * len(order) // 5])
    held_out, validation, train = (Data(xs[cut], labels[order][cut]) for cut in cuts)
    return Task(train, validation, held_out, classes=10)


def make_tasks(seed: int) -> dict[str, Task]:
    """Return all three tasks, by name."""
    sums = [adding(seed + k, count) for k, count in enumerate((20_000, 1_000, 2_000))]
    of_digits = {name: digits(seed, name == PERMUTED) for name in (DIGITS, PERMUTED)}
    return {ADDING: Task(*sums, classes=1), **of_digits}


def losses(answers: jax.Array, targets: Any) -> jax.Array:
    """Return the squared error of each number, or the cross-entropy of each class."""
    if answers.shape[-1] == 1:
        return jnp.square(answers[..., 0] - targets)
    return optax.softmax_cross_entropy_with_integer_labels(answers, targets)


def score(answers: jax.Array, targets: Any) -> jax.Array:
    """Return the accuracy of classes, or minus the mean squared error of numbers.

    Higher is better.
    """
    if answers.shape[-1] == 1:
        return -jnp.mean(losses(answers, targets))
    return jnp.mean(jnp.argmax(answers, axis=-1) == targets)


def baselines(task: Task) -> dict[str, float]:
    """Return the scores of methods without a memory.

    For numbers it is their mean. For digits it is the most frequent class, and a logistic
    regression on all pixels at once.
    """
    if task.classes == 1:
        return {"the mean": -float(np.var(task.held_out.targets))}
    flat = [data.xs[..., 0] for data in (task.train, task.held_out)]
    model = LogisticRegression(max_iter=1000).fit(flat[0], task.train.targets)
    most = np.bincount(task.train.targets).argmax()
    right = float(model.score(flat[1], task.held_out.targets))
    return {"the most frequent": float(np.mean(task.held_out.targets == most)), "logistic": right}


def format_score(task: Task, score: float) -> str:
    """Return a score as text."""
    return f"{score:.1%} right" if task.classes > 1 else f"error {-score:.4f}"


def gradient_flow(cell: jaxrnn.Cell, task: Task, seed: int) -> np.ndarray:
    """Return the norm of ∂(v · y_T)/∂h_t at initialisation, for t from T - 1 down to 0.

    Here h is the carry, y is the output, T is the last step, and v is a random vector of length
    one. Each norm is the mean over the first 32 sequences of the training data.
    """
    xs = jnp.swapaxes(jnp.asarray(task.train.xs[:32]), 0, 1)
    params = cell.init(jax.random.key(seed), xs.shape[-1])
    v = jax.random.normal(jax.random.key(seed), (xs.shape[1], cell.out_features))
    v = v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    flow = diagnostics.gradient_flow(lambda _, ys: jnp.sum(v * ys[-1]), cell, params, xs)
    return np.asarray(diagnostics.by_distance(flow.total())[1:])
