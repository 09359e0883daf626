"""Train agents with a memory by recurrent PPO, in JAX alone, environments included.

    python examples/recurrent_ppo.py                    # a T-maze: three agents, three seeds each
    python examples/recurrent_ppo.py --corridor 50 --horizon 128
    python examples/recurrent_ppo.py --task repeat-previous --lag 4

This needs `pip install "jaxrnn[examples]"`. The learning curves (curves.png) are written to
`--out`. The agents act by `jaxrnn.step`, and learn by `jaxrnn.scan` over the same sequences, with
`reset` where episodes begin (`ppo.py`)."""

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.ticker import FuncFormatter
from tqdm import tqdm

import jaxrnn
from kit import plots
from kit.command_line import check_at_least, check_positive, command
from kit.environments import Environment, RepeatPrevious, TMaze
from kit.files import make_writable
from ppo import PPO, Agent, Linear


@dataclasses.dataclass(frozen=True)
class Memoryless(jaxrnn.Cell):
    """A layer without a memory, `y_t = tanh(x_t W + b)`, as a cell with an empty carry."""

    hidden: int

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> Linear:
        """Draw the parameters."""
        del dtype
        return Linear.init(key, in_features, self.hidden, scale=1.0)

    def initial_carry(self, params: Linear, input_shape: tuple[int, ...]) -> tuple[()]:
        """Nothing."""
        del params, input_shape
        return ()

    def project(self, params: Linear, xs: Array) -> Array:
        """All of it, for it does not need the carry."""
        return jnp.tanh(params(xs))

    def step(
        self, params: Linear, carry: tuple[()], u: Array, affine: Any = jaxrnn.affine
    ) -> tuple[tuple[()], Array]:
        """Nothing is left to do."""
        del params, affine
        return carry, u

    @property
    def out_features(self) -> int:
        """`hidden`."""
        return self.hidden


CURVES = "curves.png"
CELLS = {"LSTM": jaxrnn.LSTM, "GRU": jaxrnn.GRU, "none": Memoryless}
POOLED = 4  # updates in each point of a curve
NAMES = {"LSTM": "LSTM", "GRU": "GRU", "none": "no memory"}
COLORS = {"LSTM": plots.BLUE, "GRU": plots.RED, "none": plots.GREY}
SIZES = ("updates", "envs", "horizon", "epochs", "minibatches")


@dataclasses.dataclass(frozen=True)
class Options:
    """Train agents with and without a memory by recurrent PPO, on tasks that need a memory."""

    task: Literal["t-maze", "repeat-previous"] = "t-maze"
    """Turn where the sign at the start said; or name the symbol shown --lag steps ago."""
    corridor: int = 20
    """Steps from the start of the T-maze to its junction."""
    lag: int = 4
    """For repeat-previous: how many steps ago the symbol was shown."""
    cells: tuple[Literal["LSTM", "GRU", "none"], ...] = ("LSTM", "GRU", "none")
    """The cells of the agents' memories."""
    hidden: int = 32
    """Units of the memory, and of the layer before it."""
    seeds: int = 3
    """The number of trainings of each agent, with seeds 0, 1, ..."""
    updates: int = 120
    """Rollouts to learn from."""
    envs: int = 64
    """Environments that run in parallel."""
    horizon: int = 64
    """Steps in each environment per update; gradients reach no further back."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Updates per pass, each from --envs / --minibatches sequences."""
    learning_rate: float = 2e-3
    """Learning rate of Adam at the start; it falls to zero."""
    out: Path = Path("runs/recurrent_ppo")
    """Folder for the curves."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "corridor", "lag", "hidden", "seeds", *SIZES)
        if not self.cells or len({*self.cells}) < len(self.cells):
            raise ValueError(
                f"--cells must name some of {', '.join(CELLS)}, each once, not "
                f"{' '.join(self.cells) or 'nothing'}"
            )
        if self.envs % self.minibatches:
            raise ValueError(
                f"--envs must be a multiple of --minibatches, not {self.envs} and "
                f"{self.minibatches}"
            )
        if self.lag >= RepeatPrevious.episode:
            raise ValueError(
                f"--lag must be below {RepeatPrevious.episode}, the steps in an episode, not "
                f"{self.lag}"
            )
        check_positive(self, "learning_rate")

    @property
    def env(self) -> Environment:
        """The task."""
        return TMaze(self.corridor) if self.task == "t-maze" else RepeatPrevious(self.lag)

    def ppo(self, cell: str) -> PPO:
        """The algorithm for one of the agents."""
        env, memory = self.env, CELLS[cell](self.hidden)
        agent = Agent(memory, env.features, env.actions, encoding=self.hidden)
        sizes = {name: getattr(self, name) for name in SIZES}
        return PPO(env, agent, learning_rate=self.learning_rate, **sizes)


class Curve(NamedTuple):
    """One training."""

    successes: list[int]  # in each update
    scored: list[int]  # of so many
    final: float  # rate of success, in fresh episodes after training
    seconds: float  # spent on updates, compilation excluded


def train(options: Options, cell: str, bar: tqdm) -> Iterator[Curve]:
    """Train one of the agents, from each seed."""
    ppo = options.ppo(cell)
    start = jax.eval_shape(ppo.init, jax.random.key(0))
    # here, so that what is timed does not contain it
    update = jax.jit(ppo.update).lower(start).compile()
    success_rate = jax.jit(ppo.success_rate)
    for seed in range(options.seeds):
        k_train, k_test = jax.random.split(jax.random.key(seed))
        training = ppo.init(k_train)
        began, successes, scored = time.perf_counter(), [], []
        for number in range(options.updates):
            training, report = update(training)
            if not math.isfinite(report.loss):
                raise FloatingPointError(
                    f"training diverged at update {number}: --learning-rate "
                    f"{options.learning_rate} is too high"
                )
            successes.append(int(report.successes))
            scored.append(int(report.scored))
            bar.set_postfix_str(
                f"{NAMES[cell]}, seed {seed}: {successes[-1]} of {scored[-1]} right", refresh=False
            )
            bar.update()
        seconds = time.perf_counter() - began
        yield Curve(successes, scored, float(success_rate(training.params, k_test)), seconds)


def success_rates(curve: Curve) -> list[float]:
    """Over a few updates each, so that every rate has enough episodes behind it; NaN where none was
    decided.
    """
    windows = [slice(k, k + POOLED) for k in range(0, len(curve.scored), POOLED)]
    counts = [(sum(curve.successes[window]), sum(curve.scored[window])) for window in windows]
    return [right / total if total else math.nan for right, total in counts]


def table(options: Options, curves: dict[str, list[Curve]]) -> str:
    """Success of each agent and seed, and the speed of its training."""
    steps = options.updates * options.envs * options.horizon
    lines = [
        f"{'':<12}"
        + "".join(f"{f'seed {seed}':>9}" for seed in range(options.seeds))
        + f"{'steps/s':>12}{'seconds':>9}"
    ]
    for cell, of_seeds in curves.items():
        seconds = sum(curve.seconds for curve in of_seeds)
        rates = "".join(f"{curve.final:>9.3f}" for curve in of_seeds)
        lines.append(
            f"{NAMES[cell]:<12}{rates}{len(of_seeds) * steps / seconds:>12,.0f}{seconds:>9.1f}"
        )
    return "\n".join(lines)


def plot(path: Path, options: Options, curves: dict[str, list[Curve]]) -> None:
    """Draw rates of success against steps in the environment: thin lines are seeds, thick ones
    their mean.
    """
    figure, ((axes,),) = plots.make_grid()
    ends = [min(k + POOLED, options.updates) for k in range(0, options.updates, POOLED)]
    steps = np.array(ends) * options.envs * options.horizon
    for cell, of_seeds in curves.items():
        rates = np.array([success_rates(curve) for curve in of_seeds])
        axes.plot(steps, rates.T, color=COLORS[cell], linewidth=0.8, alpha=0.5)
        axes.plot(steps, rates.mean(0), color=COLORS[cell], linewidth=2.2, label=NAMES[cell])
    chance = {"color": "black", "linewidth": 1, "linestyle": plots.DASHED, "zorder": 1}
    axes.axhline(options.env.chance, label="chance", **chance)
    axes.set(ylim=(0, 1.03), xlabel="steps in the environment", ylabel="success rate")
    axes.set(title=str(options.env))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:,.0f}"))
    figure.legend(frameon=False, loc="outside lower center", ncols=4)
    plots.save(figure, path)


@command(Options)
def main(options: Options) -> None:
    make_writable(options.out)
    total = len(options.cells) * options.seeds * options.updates
    with tqdm(total=total, unit="update", dynamic_ncols=True) as bar:
        curves = {cell: list(train(options, cell, bar)) for cell in options.cells}
    plot(options.out / CURVES, options, curves)
    steps, env = options.updates * options.envs * options.horizon, options.env
    print(f"\nSuccess after {steps:,} steps; {env.chance:g} is chance. {env}:")
    print(f"{table(options, curves)}\n{options.out / CURVES}")


if __name__ == "__main__":
    main()
