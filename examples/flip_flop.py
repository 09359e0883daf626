"""How a trained network remembers: the fixed points of an LSTM that stores three bits.

    python examples/flip_flop.py

Each of three inputs has rare pulses of 1 or -1, and is 0 otherwise. Each of three outputs must show
the sign of the last pulse of its input. A network can store the eight memories in eight sinks:
states to which it returns while there is no pulse. The borders between their basins contain
saddles: fixed points with some unstable directions, which lead to one memory or another (Sussillo &
Barak 2013, "Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
networks").

This trains an LSTM and calls `fixed_points` with many states of its trajectories at once. It pushes
every saddle both ways, to find the two memories that it separates. Then it searches for the same
points from one start after the other, and prints the times."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn import storage
from jaxrnn.diagnostics import FixedPoints, Points, fixed_points, pictures, sample_states
from kit import plots
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.fitting import fit
from kit.flip_flop.landscape import (
    ends,
    hausdorff_distance,
    one_by_one,
    outputs,
    timed,
    vectors,
)
from kit.flip_flop.task import LINES, Trials, batches, in_bits, right, trials

SILENCE = np.zeros(LINES, np.float32)


@dataclasses.dataclass(frozen=True)
class Options:
    """Train an LSTM to store three bits, and find its fixed points."""

    hidden: int = 16
    """Units of the LSTM; its state has twice as many numbers."""
    steps: int = 3_000
    """Updates."""
    batch: int = 64
    """Trials in an update."""
    length: int = 64
    """Time steps of a trial."""
    rate: float = 0.1
    """The share of steps with a pulse, for each input."""
    learning_rate: float = 1e-2
    """Learning rate of Adam at the start; it falls to zero."""
    starts: int = 1_024
    """States from which the search for fixed points starts."""
    noise: float = 0.5
    """The standard deviation of the noise that is added to those states."""
    seed: int = 0
    """Seed of the weights, the trials and the starts."""
    out: Path = Path("runs/flip_flop")
    """Folder for the picture and the weights."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "steps", "batch", "starts")
        check_at_least(self, 2, "length")
        check_positive(self, "learning_rate", "rate", "noise")
        check_seed(self.seed)


def train(cell: jaxrnn.Cell, o: Options) -> Any:
    def loss(params: Any, batch: Trials, _: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(jaxrnn.scan(cell, params, batch.xs)[1] - batch.targets))

    rate = optax.cosine_decay_schedule(o.learning_rate, o.steps)
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    data = batches(o.length, o.batch, o.rate, o.seed)
    return fit(loss, cell.init(jax.random.key(o.seed), LINES), data, adam, o.steps, "LSTM")


def report(cell: jaxrnn.Cell, params: Any, fixed: Points) -> list[str]:
    """Which memory each sink holds, "" for other points; prints it, and between which ones the
    saddles stand.
    """
    held = in_bits(outputs(cell, params, fixed.carry, SILENCE))
    held = [bits if kind == "sink" else "" for bits, kind in zip(held, fixed.kind, strict=True)]
    sinks = [bits for bits in held if bits]
    print(f"\n{len(sinks)} sinks hold {len({*sinks})} memories: {', '.join(sorted(sinks))}")
    ways = [in_bits(way) for way in ends(cell, params, fixed, SILENCE, push=1e-2)]
    between = [" | ".join(sorted(pair)) for pair in zip(*ways, strict=True)]
    for unstable in range(1, LINES + 1):
        some = np.flatnonzero((fixed.kind == "saddle") & (fixed.unstable == unstable))
        pairs = ", ".join(sorted(between[number] for number in some))
        print(f"{len(some)} saddles with {unstable} unstable, pushed both ways: {pairs or '-'}")
    return held


def compare_times(found: FixedPoints, find: Any, starts: Any) -> None:
    """The same points, found from all starts at once and from one after the other."""
    together, queued = (partial(find, starts, at_once=count) for count in (None, 1))
    alone = partial(one_by_one, find, starts, found.scale)
    ways = {
        "all starts in one call": timed(lambda: vectors(together().fixed.carry), together),
        "one call, one start after the other": timed(lambda: vectors(queued().fixed.carry), queued),
        "a call for each start": timed(alone, partial(alone, count=1)),
    }
    print()
    for name, way in ways.items():
        distance = hausdorff_distance(way.points, vectors(found.fixed.carry))
        print(f"{name}: {way}; the same points to {distance:.1e}")


def draw(
    path: Path,
    cell: jaxrnn.Cell,
    params: Any,
    trial: Trials,
    found: FixedPoints,
    held: list[str],
) -> None:
    """A trial, the landscape in three principal components, and the eigenvalues."""
    figure = plots.plt.figure(figsize=(15, 5.2), dpi=120, layout="constrained")
    grid = figure.add_gridspec(LINES, 3, width_ratios=(1, 1.25, 1))
    states, ys = jaxrnn.trajectory(cell, params, trial.xs)
    for line in range(LINES):
        axes = figure.add_subplot(grid[line, 0])
        axes.plot(trial.targets[:, 0, line], color="0.7", linewidth=4, label="last sign")
        axes.plot(ys[:, 0, line], color=plots.RED, linewidth=1, label="output")
        (at,) = np.nonzero(trial.xs[:, 0, line])
        axes.vlines(at, 0, trial.xs[at, 0, line], color=plots.BLUE, label="pulse")
        axes.set(ylim=(-1.4, 1.4), ylabel=f"line {line + 1}")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(
        frameon=False, fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 0.98)
    )
    figure.axes[LINES - 1].set_xlabel("time step")
    space = figure.add_subplot(grid[:, 1], projection="3d", elev=30, azim=150)
    some = jax.tree.map(lambda leaf: leaf[:, :6], states)
    pictures.phase_portrait(cell, params, SILENCE, some, found, labels=held, axes=space)
    space.set(xticklabels=[], yticklabels=[], zticklabels=[])
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.label.set_fontsize(8)
        axis.labelpad = -10  # there are no numbers between
    values = pictures.eigenvalues(found.fixed, axes=figure.add_subplot(grid[:, 2]))
    values.set_title("eigenvalues of a step at each point")
    plots.save(figure, path)


@command(Options)
def main(o: Options) -> None:
    make_writable(o.out)
    cell = jaxrnn.Readout(jaxrnn.LSTM(o.hidden), LINES)
    params = train(cell, o)
    held_out = trials(np.random.default_rng([o.seed, 1]), 200, 64, o.rate)
    states, ys = jaxrnn.trajectory(cell, params, held_out.xs)
    print(
        f"all three signs right at {right(np.asarray(ys), held_out.targets):.2%} of the steps of "
        f"new trials, of 200 steps; the pulses alone at {right(held_out.xs, held_out.targets):.2%}"
    )
    starts = sample_states(states, o.starts, key=jax.random.key(o.seed), noise=o.noise)
    find = partial(fixed_points, cell, params, SILENCE)
    found = find(starts)
    print(found)
    if not len(found.fixed):
        raise ValueError("no fixed points were found: train for longer, with more --steps")
    held = report(cell, params, found.fixed)
    compare_times(found, find, starts)
    storage.save(o.out / "weights.safetensors", cell, params)
    draw(o.out / "flip_flop.png", cell, params, held_out, found, held)
    print(f"{o.out}: weights.safetensors, flip_flop.png")


if __name__ == "__main__":
    main()
