"""A counter of ones, shown in three ways, and the most that can be known of it from outputs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

COUNTS = 4  # it counts modulo so many
NOTHING = COUNTS  # the output where the count is not shown
OUTPUTS = COUNTS + 1
ASKED = 0.25  # how often it is asked for
ALWAYS, CHANGES, QUESTIONS = range(3)
DISPLAYS = ("always", "when it changes", "when asked")
UNSEEN = (0.0, 0.0, 0.5)  # how often it counts where nothing is shown


class Sequences(NamedTuple):
    """What comes in, and what is right."""

    xs: Any  # [time, batch, 2], whether to count, and whether the count is asked for
    right: Any  # [time, batch], the output: a count, or NOTHING
    count: Any  # [time, batch], shown or not

    @property
    def targets(self) -> jax.Array:
        """`[time, batch, OUTPUTS]`, one for the right output."""
        return jax.nn.one_hot(self.right, OUTPUTS)


def draw(display: Any, key: jax.Array, length: int, batch: int) -> Sequences:
    """Random sequences, for each display the same; the counter begins at 0."""
    of_ones, of_questions = jax.random.split(key)
    ones = jax.random.bernoulli(of_ones, 0.5, (length, batch))
    questions = jax.random.bernoulli(of_questions, ASKED, (length, batch))
    count = jnp.cumsum(ones, axis=0) % COUNTS
    shown = jnp.stack([jnp.ones_like(ones), ones, questions])[display]
    xs = jnp.stack([ones, questions], axis=-1).astype(jnp.float32)
    return Sequences(xs, jnp.where(shown, count, NOTHING), count)


def second_half(array: Any) -> Any:
    """What is scored: where held-out sequences are twice as long, steps that training never saw."""
    return array[len(array) // 2 :]


def share_right(said: Any, right: Any) -> tuple[np.ndarray, np.ndarray]:
    """How much of what was said, `[..., time, batch, OUTPUTS]`, is right: where the count is shown,
    and where nothing is.
    """
    hits = np.argmax(said, axis=-1)[..., len(right) // 2 :, :] == second_half(right)
    shown = np.broadcast_to(second_half(right) < NOTHING, hits.shape)
    wheres = (shown, ~shown)
    found = [hits.sum((-2, -1), where=at) / np.maximum(at.sum((-2, -1)), 1) for at in wheres]
    return found[0], found[1]


def limit_of_last_output(data: Sequences) -> float:
    """The most that any function of the last right output and of the input gets right where the
    count is shown: the most frequent answer to each of these pairs, in these very sequences.
    """
    ones, questions = np.moveaxis(np.asarray(data.xs, int), -1, 0)
    last = np.roll(data.right, 1, axis=0)  # wrong in the first step alone, which is not scored
    answers = np.zeros((OUTPUTS, 2, 2, OUTPUTS), int)
    np.add.at(answers, tuple(map(second_half, (last, ones, questions, data.right))), 1)
    shown = answers[..., :NOTHING]  # the input tells whether it is shown
    return float(shown.max(axis=-1).sum() / shown.sum())


def limit_of_all_outputs(display: int, data: Sequences) -> float:
    """The same for any function of all right outputs before, and of the input: the probability of
    the likeliest count, by Bayes' rule, on average.
    """
    right, unseen = np.asarray(data.right), UNSEEN[display]
    belief, best = np.tile(np.eye(COUNTS)[0], (right.shape[1], 1)), np.zeros(right.shape)
    for time, shown in enumerate(right):
        best[time] = belief.max(axis=-1)  # what this step counts is an input, and known
        moved = (1 - unseen) * belief + unseen * np.roll(belief, 1, axis=-1)
        known = np.eye(OUTPUTS)[shown][:, :COUNTS]
        belief = np.where((shown < NOTHING)[:, None], known, moved)
    return float(np.mean(second_half(best)[second_half(right) < NOTHING]))
