"""A counter of ones that is displayed in three ways, and how well outputs can predict it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

COUNTS = 4  # the counter counts modulo this
NOTHING = COUNTS  # the target where the count is not shown
OUTPUTS = COUNTS + 1
ASKED = 0.25  # the probability that a step asks for the count
ALWAYS, CHANGES, QUESTIONS = range(3)
DISPLAYS = ("always", "when it changes", "when asked")
UNSEEN = (0.0, 0.0, 0.5)  # of each display: the probability of a one where nothing is shown


class Sequences(NamedTuple):
    """Inputs and targets."""

    xs: Any  # [time, batch, 2]: whether to count, and whether the count is asked for
    right: Any  # [time, batch], the target: a count, or NOTHING
    count: Any  # [time, batch], whether it is shown or not

    @property
    def targets(self) -> jax.Array:
        """The targets as one-hot vectors `[time, batch, OUTPUTS]`."""
        return jax.nn.one_hot(self.right, OUTPUTS)


def draw(display: Any, key: jax.Array, length: int, batch: int) -> Sequences:
    """Draw random sequences. The counter begins at 0.

    The inputs and counts depend on the key only, not on the display.
    """
    of_ones, of_questions = jax.random.split(key)
    ones = jax.random.bernoulli(of_ones, 0.5, (length, batch))
    questions = jax.random.bernoulli(of_questions, ASKED, (length, batch))
    count = jnp.cumsum(ones, axis=0) % COUNTS
    shown = jnp.stack([jnp.ones_like(ones), ones, questions])[display]
    xs = jnp.stack([ones, questions], axis=-1).astype(jnp.float32)
    return Sequences(xs, jnp.where(shown, count, NOTHING), count)


def second_half(array: Any) -> Any:
    """Return the second half in time, which is the part that is scored.

    Held-out sequences are twice as long as those of training, so no network was trained on it.
    """
    return array[len(array) // 2 :]


def share_right(said: Any, right: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the accuracy of outputs in the second half, as a share `[...]`.

    Args:
        said: the outputs `[..., time, batch, OUTPUTS]`, of which the largest is the answer.
        right: the targets `[time, batch]`.

    Returns:
        The accuracy where the count is shown, and the accuracy where nothing is shown.
    """
    hits = np.argmax(said, axis=-1)[..., len(right) // 2 :, :] == second_half(right)
    shown = np.broadcast_to(second_half(right) < NOTHING, hits.shape)
    wheres = (shown, ~shown)
    found = [hits.sum((-2, -1), where=at) / np.maximum(at.sum((-2, -1)), 1) for at in wheres]
    return found[0], found[1]


def limit_of_last_output(data: Sequences) -> float:
    """Return the best accuracy that a function of the last target and the input can have.

    It is that of the function which returns, for each pair of the two, their most frequent target
    in these sequences. Steps at which nothing is shown do not count.
    """
    ones, questions = np.moveaxis(np.asarray(data.xs, int), -1, 0)
    last = np.roll(data.right, 1, axis=0)  # wrong only at the first step, which is not scored
    answers = np.zeros((OUTPUTS, 2, 2, OUTPUTS), int)
    np.add.at(answers, tuple(map(second_half, (last, ones, questions, data.right))), 1)
    shown = answers[..., :NOTHING]  # last target and input tell whether the count is shown
    return float(shown.max(axis=-1).sum() / shown.sum())


def limit_of_all_outputs(display: int, data: Sequences) -> float:
    """Return the best expected accuracy of a function of all earlier targets and the input.

    It is the mean probability of the likeliest count by Bayes' rule, over the steps at which the
    count is shown.
    """
    right, unseen = np.asarray(data.right), UNSEEN[display]
    belief, best = np.tile(np.eye(COUNTS)[0], (right.shape[1], 1)), np.zeros(right.shape)
    for time, shown in enumerate(right):
        best[time] = belief.max(axis=-1)  # the input tells whether this step adds one
        moved = (1 - unseen) * belief + unseen * np.roll(belief, 1, axis=-1)
        known = np.eye(OUTPUTS)[shown][:, :COUNTS]
        belief = np.where((shown < NOTHING)[:, None], known, moved)
    return float(np.mean(second_half(best)[second_half(right) < NOTHING]))
