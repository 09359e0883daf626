"""The flip-flop task: each output holds the sign of the last pulse on its input line."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

LINES = 3


class Trials(NamedTuple):
    """Inputs and targets, `[time, trials, LINES]` each."""

    xs: np.ndarray  # pulses of 1 and -1, else 0
    targets: np.ndarray  # 1 or -1, the sign of the last pulse


def trials(rng: np.random.Generator, length: int, count: int, rate: float) -> Trials:
    """Draw `count` trials of `length` steps, with a pulse at each step with probability `rate`.

    Every line has a pulse at the first step, so that there is always a sign to hold.
    """
    shape = (length, count, LINES)
    signs = rng.choice([-1.0, 1.0], shape)
    pulses = rng.random(shape) < rate
    pulses[0] = True
    time = np.arange(length)[:, None, None]
    last = np.maximum.accumulate(np.where(pulses, time, 0), axis=0)
    targets = np.take_along_axis(signs, last, axis=0)
    return Trials(np.where(pulses, signs, 0).astype(np.float32), targets.astype(np.float32))


def batches(length: int, count: int, rate: float, seed: int) -> Iterator[Trials]:
    """Yield batches of new trials without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield trials(rng, length, count, rate)


def right(ys: np.ndarray, targets: np.ndarray) -> float:
    """Return the share of steps at which the outputs of all lines have the right sign."""
    return float(np.mean(np.all(np.sign(ys) == targets, axis=-1)))


def in_bits(outputs: np.ndarray) -> list[str]:
    """Return the signs of each row of outputs as bits such as "101", with 1 for positive."""
    return ["".join("01"[int(number > 0)] for number in row) for row in outputs]
