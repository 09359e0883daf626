"""The flip-flop task: lines with rare pulses, and outputs that hold the last sign of each."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

LINES = 3


class Trials(NamedTuple):
    """`[time, trials, lines]` each."""

    xs: np.ndarray  # pulses of 1 and -1, else 0
    targets: np.ndarray  # 1 or -1


def trials(rng: np.random.Generator, length: int, count: int, rate: float) -> Trials:
    """Random pulses, and one on every line at the start, so that there is a sign to hold."""
    shape = (length, count, LINES)
    signs = rng.choice([-1.0, 1.0], shape)
    pulses = rng.random(shape) < rate
    pulses[0] = True
    time = np.arange(length)[:, None, None]
    last = np.maximum.accumulate(np.where(pulses, time, 0), axis=0)
    targets = np.take_along_axis(signs, last, axis=0)
    return Trials(np.where(pulses, signs, 0).astype(np.float32), targets.astype(np.float32))


def batches(length: int, count: int, rate: float, seed: int) -> Iterator[Trials]:
    """New trials without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield trials(rng, length, count, rate)


def right(ys: np.ndarray, targets: np.ndarray) -> float:
    """The share of steps at which all lines have the right sign."""
    return float(np.mean(np.all(np.sign(ys) == targets, axis=-1)))


def in_bits(outputs: np.ndarray) -> list[str]:
    """Rows of outputs as "101"; 1 is positive."""
    return ["".join("01"[int(number > 0)] for number in row) for row in outputs]
