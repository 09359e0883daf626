"""How fast recurrent PPO acts and learns, beside the same agent as people write it in Flax today
(`ppo_flax.py`).

    PYTHONPATH=examples python -m benchmarks.ppo_throughput

measures the agent of `examples/recurrent_ppo.py`; with `--hidden 128 --envs 4 --horizon 128` it has
the sizes of PureJaxRL's recurrent PPO.

Both sides have the same weights. First they must agree, on one rollout: what they decide, the loss
of the learning phase, and its gradient. Then they take turns, and the median over rounds counts.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn
from benchmarks.ppo_flax import flax_twin
from kit.command_line import check_at_least, command
from kit.environments import TMaze
from ppo import PPO, Agent, AgentParams, Rollout, Situation

TOLERANCE = 1e-4  # of float32, relative to the largest entry of an array


@dataclasses.dataclass(frozen=True)
class Options:
    """Time acting and learning of recurrent PPO with a GRU, in jaxrnn and in Flax."""

    hidden: int = 32
    """Units of the GRU, and of the layer before it."""
    envs: int = 64
    """Environments that are acted in at once."""
    horizon: int = 64
    """Steps in each per update."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Updates per pass, each from --envs / --minibatches sequences."""
    rounds: int = 9
    """How often each side is timed."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "envs", "horizon", "epochs", "minibatches", "rounds")
        if self.envs % self.minibatches:
            raise ValueError(
                f"--envs must be a multiple of --minibatches, not {self.envs} and "
                f"{self.minibatches}"
            )


@dataclasses.dataclass(frozen=True)
class Side:
    """One library's agent, where it stands, and what it acted."""

    ppo: PPO
    params: Any
    situation: Situation
    rollout: Rollout


def make_sides(options: Options, key: jax.Array) -> dict[str, Side]:
    """The same agent twice, and the same rollout to learn from."""
    env = TMaze()
    agent = Agent(jaxrnn.GRU(options.hidden), env.features, env.actions, encoding=options.hidden)
    sizes = {name: getattr(options, name) for name in ("envs", "horizon", "epochs", "minibatches")}
    ppo = PPO(env, agent, updates=1, **sizes)
    k_init, k_act = jax.random.split(key)
    params, _, situation, _ = ppo.init(k_init)
    # From a situation in mid-episode, so that the carries matter.
    situation, _ = jax.jit(ppo.act)(params, situation, k_act)
    _, rollout = jax.jit(ppo.act)(params, situation, k_act)
    twin, twin_params = flax_twin(agent, params)
    twin_ppo = dataclasses.replace(ppo, agent=twin)
    return {
        "jaxrnn": Side(ppo, params, situation, rollout),
        "Flax": Side(twin_ppo, twin_params, situation, rollout),
    }


def check_agreement(ours: Side, theirs: Side) -> None:
    """Refuse to compare sides that differ in what they decide, in their loss, or in its gradient.

    Raises:
        ValueError: they do; the message says in what.
    """
    steps = ours.rollout.steps
    decide, learn = ({}, {})
    for name, side in (("ours", ours), ("theirs", theirs)):
        act = jax.jit(side.ppo.agent.step)
        decide[name] = act(side.params, side.situation.carry, steps.observation[0], steps.first[0])
        learn[name] = jax.jit(jax.value_and_grad(side.ppo.loss))(
            side.params, side.ppo.sequences(side.rollout)
        )
    loss, gradient = learn["ours"]
    if not isinstance(ours.ppo.agent, Agent) or not isinstance(gradient, AgentParams):
        raise TypeError("check_agreement: the first side must be jaxrnn's")
    learn["ours"] = loss, flax_twin(ours.ppo.agent, gradient)[1]
    for what, values in (("decisions", decide), ("loss or its gradient", learn)):
        off = difference(values["ours"], values["theirs"])
        if not off < TOLERANCE:
            raise ValueError(
                f"the sides differ in their {what} by {off:.1e}, expected less than {TOLERANCE:g}"
            )


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference between two trees, relative to the largest entry of each array."""
    off = jax.tree.map(lambda a, b: jnp.abs(a - b).max() / (jnp.abs(b).max() + 1e-30), ours, theirs)
    return max(map(float, jax.tree.leaves(off)))


def time_in_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, which take turns; the first round, not counted, compiles and
    warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        order = list(calls) if number % 2 else list(reversed(calls))
        for name in order:
            began = time.perf_counter()
            jax.block_until_ready(calls[name]())
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def acting(side: Side, key: jax.Array) -> Callable[[], Any]:
    act = jax.jit(side.ppo.act)
    return lambda: act(side.params, side.situation, key)


def learning(side: Side, key: jax.Array) -> Callable[[], Any]:
    learn, optimizer = jax.jit(side.ppo.learn), side.ppo.optimizer.init(side.params)
    return lambda: learn(side.params, optimizer, side.rollout, key)


@command(Options)
def main(options: Options) -> None:
    key = jax.random.key(0)
    sides = make_sides(options, key)
    check_agreement(*sides.values())
    steps = options.envs * options.horizon
    print(
        f"GRU-{options.hidden}, {options.envs} environments x {options.horizon} steps, "
        "minibatches of",
        end=" ",
    )
    print(
        f"{options.envs // options.minibatches} sequences, {options.epochs} epochs; environment "
        "steps per second:"
    )
    print(f"{'':<10}" + "".join(f"{name:>12}" for name in sides) + f"{'speed':>8}")
    total = dict.fromkeys(sides, 0.0)
    for phase, prepare in (("acting", acting), ("learning", learning)):
        seconds = time_in_turns(
            {name: prepare(side, key) for name, side in sides.items()}, options.rounds
        )
        total = {name: total[name] + seconds[name] for name in sides}
        print_row(phase, steps, seconds)
    print_row("both", steps, total)


def print_row(phase: str, steps: int, seconds: dict[str, float]) -> None:
    ours, theirs = seconds.values()
    print(
        f"{phase:<10}"
        + "".join(f"{steps / taken:>12,.0f}" for taken in seconds.values())
        + f"{theirs / ours:>8.2f}"
    )


if __name__ == "__main__":
    main()
