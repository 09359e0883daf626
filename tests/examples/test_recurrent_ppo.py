"""`examples/recurrent_ppo.py`: what it learns from is what it acted, and the mistakes that are
easily made with resets are found.

Each mistake is planted, and must fail a check that the right program passes.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for needed in ("matplotlib", "optax", "tqdm", "tyro"):
    pytest.importorskip(needed)


import jaxrnn
import ppo
import recurrent_ppo
from benchmarks import ppo_throughput
from kit.environments import EAST, NORTH, SOUTH, WEST, RepeatPrevious, TMaze
from ppo import Agent, AgentParams
from recurrent_ppo import Memoryless

# episodes of up to nine steps: several in a window, and one that goes on into the next
ENV = TMaze(length=2, patience=3)
ENVS, HORIZON = 12, 24
CELLS = {"LSTM": jaxrnn.LSTM(6), "GRU": jaxrnn.GRU(6), "no memory": Memoryless(6)}
Flags = Callable[[Any], Any]

SHIFTS: dict[str, Flags] = {
    "right": lambda flags: flags,
    "never": np.zeros_like,
    "a step late": lambda flags: np.concatenate([np.zeros_like(flags[:1]), flags[:-1]]),
    "a step early": lambda flags: np.concatenate([flags[1:], np.zeros_like(flags[:1])]),
}
"""What may be done to flags `[time, envs]`."""


@dataclasses.dataclass(frozen=True)
class Mistaken(Agent):
    """An agent that may act with its carry reset at the wrong time."""

    acting: str = "right"

    def step(self, params, carry, observation, first):
        if self.acting == "right":
            return super().step(params, carry, observation, first)
        carry, decision = super().step(params, carry, observation, jnp.zeros_like(first))
        if self.acting == "never":
            return carry, decision
        # the observation that begins an episode is met with the carry of the one before
        assert self.acting == "a step late"
        fresh = self.initial_carry(params, len(first))
        return jax.tree.map(
            lambda new, old: jnp.where(first[:, None], new, old), fresh, carry
        ), decision


class Acted(NamedTuple):
    """One window of acting, begun in mid-episode."""

    agent: Agent
    params: AgentParams
    rollout: ppo.Rollout
    after: ppo.Situation


@functools.cache
def act(cell: str = "LSTM", acting: str = "right") -> Acted:
    agent = Mistaken(CELLS[cell], ENV.features, ENV.actions, encoding=5, acting=acting)
    params, _, situation, key = untrained(cell)
    # at first all actions are all but equally likely
    w: Any = 100 * np.asarray(params.policy.w)
    params = params._replace(policy=params.policy._replace(w=w))
    window = jax.jit(make_ppo(agent).act)
    situation, _ = window(params, situation, key)
    after, rollout = window(params, situation, jax.random.key(4))
    return Acted(agent, params, rollout, after)


@functools.cache
def untrained(cell: str) -> ppo.Training:
    agent = Agent(CELLS[cell], ENV.features, ENV.actions, encoding=5)
    return jax.jit(make_ppo(agent).init)(jax.random.key(3))


def make_ppo(agent: Any) -> ppo.PPO:
    return ppo.PPO(ENV, agent, updates=1, envs=ENVS, horizon=HORIZON)


# whatever the agent
sequences_of = jax.jit(make_ppo(None).sequences)


# What must hold


@functools.partial(jax.jit, static_argnums=0)
def decide(agent: Agent, params: Any, sequences: ppo.Sequences, envs: Any, action: Any) -> Any:
    """The values of some environments' steps, and how likely these actions were."""
    carry, steps, _ = sequences.of(envs)
    decision = agent.scan(params, carry, steps.observation, steps.first)
    return decision.value, ppo.log_probability(decision.logits, action)


@functools.partial(jax.jit, static_argnums=0)
def decide_alone(cell: jaxrnn.Cell, params: AgentParams, observations: Any) -> Any:
    _, ys = jaxrnn.scan(cell, params.cell, jax.nn.relu(params.encoder(observations)))
    return params.value(ys)[..., 0]


def check_replay(acted: Acted, sequences: ppo.Sequences) -> None:
    """Learning finds the log-probabilities and values that acting recorded, for any choice of
    sequences.
    """
    chosen, steps = np.array([7, 2, 10, 5]), acted.rollout.steps
    recorded = {
        name: np.asarray(getattr(steps, name))[:, chosen]
        for name in ("value", "log_prob", "action")
    }
    learning = dataclasses.replace(acted.agent, acting="right")
    value, log_prob = decide(learning, acted.params, sequences, chosen, recorded["action"])
    np.testing.assert_allclose(value, recorded["value"], atol=1e-5)
    np.testing.assert_allclose(log_prob, recorded["log_prob"], atol=1e-5)


def check_episodes_alone(acted: Acted, sequences: ppo.Sequences) -> None:
    """Every episode that began in the window was acted as if none had been before: the cell says
    so, run without any flag.
    """
    del sequences
    (agent, params, *_), steps = acted, acted.rollout.steps
    done = np.asarray(steps.outcome.done)
    begins = [(t + 1, env) for t, env in np.argwhere(done) if t + 1 < HORIZON]
    assert len(begins) > 2 * ENVS
    seen = np.asarray(steps.observation)
    padded = np.zeros((HORIZON, len(begins), ENV.features), np.float32)
    for column, (t, env) in enumerate(begins):
        padded[: HORIZON - t, column] = seen[t:, env]
    values = np.asarray(decide_alone(agent.cell, params, padded))
    recorded = np.asarray(steps.value)
    for column, (begin, env) in enumerate(begins):
        last = begin + int(np.argmax([*done[begin:-1, env], True]))
        np.testing.assert_allclose(
            values[: last + 1 - begin, column],
            recorded[begin : last + 1, env],
            atol=1e-5,
        )


def check_advantages(acted: Acted, sequences: ppo.Sequences) -> None:
    """The advantages are the sums that the paper writes down, each within its episode."""
    outcome = acted.rollout.steps.outcome
    reward, value, last_value = (
        np.asarray(a, float)
        for a in (outcome.reward, acted.rollout.steps.value, acted.rollout.last_value)
    )
    done, gamma, decay = np.asarray(outcome.done), ENV.discount, ENV.discount * ppo.PPO.gae_lambda
    expected = np.zeros((HORIZON, ENVS))
    for t, env in np.ndindex(HORIZON, ENVS):
        for k in range(t, HORIZON):
            after = 0.0 if done[k, env] else [*value[:, env], last_value[env]][k + 1]
            expected[t, env] += decay ** (k - t) * (reward[k, env] + gamma * after - value[k, env])
            if done[k, env]:
                break
    np.testing.assert_allclose(sequences.advantage, expected, atol=1e-4)


CHECKS = [check_replay, check_episodes_alone, check_advantages]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("check", CHECKS)
def test_the_right_program_passes(check: Callable[[Acted, ppo.Sequences], None], cell: str) -> None:
    acted = act(cell)
    check(acted, sequences_of(acted.rollout))


def test_windows_cut_episodes() -> None:
    """Without this, a carry of the wrong window could not be told from the right one."""
    first = np.asarray(act().rollout.steps.first)[0]
    assert first.any()
    assert not first.all()


# Mistakes


class Mispaired(ppo.Sequences):
    """Minibatches that leave the carries in the order of the environments."""

    def of(self, envs: jax.Array) -> ppo.Sequences:
        carry = jax.tree.map(lambda leaf: leaf[: len(envs)], self.carry)
        return super().of(envs)._replace(carry=carry)


def with_resets(acting: str, learning: str) -> Callable[[], tuple[Acted, ppo.Sequences]]:
    def plant() -> tuple[Acted, ppo.Sequences]:
        acted = act(acting=acting)
        sequences = sequences_of(acted.rollout)
        steps = sequences.steps
        return acted, sequences._replace(steps=steps._replace(first=SHIFTS[learning](steps.first)))

    return plant


def with_carry(carry: Callable[[Acted], Any]) -> Callable[[], tuple[Acted, ppo.Sequences]]:
    def plant() -> tuple[Acted, ppo.Sequences]:
        acted = act()
        return acted, sequences_of(acted.rollout)._replace(carry=carry(acted))

    return plant


def with_done(shift: str) -> Callable[[], tuple[Acted, ppo.Sequences]]:
    """Episodes end elsewhere for the advantages."""

    def plant() -> tuple[Acted, ppo.Sequences]:
        acted = act()
        steps = acted.rollout.steps
        outcome = steps.outcome._replace(done=SHIFTS[shift](steps.outcome.done))
        return acted, sequences_of(acted.rollout._replace(steps=steps._replace(outcome=outcome)))

    return plant


def mispaired() -> tuple[Acted, ppo.Sequences]:
    acted = act()
    return acted, Mispaired(*sequences_of(acted.rollout))


MISTAKES = {
    "acting never resets": (with_resets("never", "right"), check_replay),
    "acting resets a step late": (with_resets("a step late", "right"), check_replay),
    "learning never resets": (with_resets("right", "never"), check_replay),
    "learning resets a step late": (with_resets("right", "a step late"), check_replay),
    "learning resets a step early": (with_resets("right", "a step early"), check_replay),
    "neither resets": (with_resets("never", "never"), check_episodes_alone),
    "both reset a step late": (with_resets("a step late", "a step late"), check_episodes_alone),
    "the carry after the window": (with_carry(lambda acted: acted.after.carry), check_replay),
    "a fresh carry": (
        with_carry(lambda acted: acted.agent.initial_carry(acted.params, ENVS)),
        check_replay,
    ),
    "another environment's carry": (mispaired, check_replay),
    "advantages leak across a reset": (with_done("never"), check_advantages),
    "advantages end a step late": (with_done("a step late"), check_advantages),
    "advantages end a step early": (with_done("a step early"), check_advantages),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str) -> None:
    plant, check = MISTAKES[mistake]
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(*plant())


def test_a_program_that_never_resets_looks_consistent() -> None:
    """Why replaying alone is not enough: acting and learning may share a mistake."""
    check_replay(*with_resets("never", "never")())


# The environments


reset, observe, advance = map(jax.jit, (ENV.reset, ENV.observe, ENV.advance))


def walk(goal: int, actions: list[int]) -> tuple[list[list[float]], list[tuple[float, bool, bool]]]:
    """What is seen before each action, and the reward, the end, and the success after it."""
    seen, came = [], []
    state = reset(jax.random.key(0))._replace(goal=np.int32(goal))
    for action in actions:
        seen.append([*map(float, np.asarray(observe(state)))])
        state, outcome = advance(jax.random.key(1), state, np.int32(action))
        came.append((round(float(outcome.reward), 6), bool(outcome.done), bool(outcome.success)))
    return seen, came


def test_t_maze() -> None:
    """The bits and rewards of the paper's table."""
    sign_north, sign_south, corridor, junction = [0, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 0]
    going, bumped = (0.0, False, False), (-0.1, False, False)
    seen, came = walk(NORTH, [WEST, EAST, WEST, EAST, SOUTH, EAST, EAST, NORTH])
    north = [sign_north, sign_north, corridor, sign_north, corridor, corridor, junction, junction]
    assert seen == north
    assert came == [bumped, going, going, going, bumped, going, bumped, (4.0, True, True)]
    seen, came = walk(SOUTH, [EAST, EAST, NORTH])
    assert seen == [sign_south, corridor, junction]
    assert came[-1] == (-0.1, True, False)
    _, came = walk(SOUTH, [EAST, EAST, SOUTH])
    assert came[-1] == (4.0, True, True)
    _, came = walk(SOUTH, [NORTH] * ENV.longest)
    assert [done for _, done, _ in came] == [False] * (ENV.longest - 1) + [True]


def test_a_new_episode_begins_where_one_ends() -> None:
    steps = act().rollout.steps
    t, env = np.nonzero(np.asarray(steps.outcome.done)[:-1])
    signs = np.asarray(steps.observation)[t + 1, env]
    assert {tuple(sign) for sign in signs} == {(0, 1, 1), (1, 1, 0)}
    assert np.array_equal(np.asarray(steps.first)[1:], np.asarray(steps.outcome.done)[:-1])


def test_repeat_previous() -> None:
    env, key = RepeatPrevious(lag=2, episode=6), jax.random.key(0)
    state, shown, step = jax.jit(env.reset)(key), [], jax.jit(env.advance)
    see = jax.jit(env.observe)
    for t in range(env.episode):
        shown.append(int(np.argmax(see(state))))
        right = shown[t - 2] if t >= 2 else 0
        _, wrong = step(jax.random.key(t), state, np.int32((right + 1) % 4))
        state, outcome = step(jax.random.key(t), state, np.int32(right))
        assert bool(outcome.scored) == bool(outcome.success) == bool(outcome.reward) == (t >= 2)
        assert not bool(wrong.success)
        assert bool(outcome.done) == (t == env.episode - 1)
    assert len({*shown}) > 1


# The whole


def test_memory_is_what_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"corridor": 3, "hidden": 16, "seeds": 1, "updates": 40, "envs": 32, "horizon": 32}
    flags = [f"--{name}={size}" for name, size in sizes.items()]
    some = ["--cells", "GRU", "none", "--learning-rate", "5e-3"]
    recurrent_ppo.main(["--out", str(tmp_path), *some, *flags])
    printed = capsys.readouterr().out
    rates = {
        line[:12].strip(): float(line[12:21])
        for line in printed.splitlines()
        if line.startswith(("GRU", "no memory"))
    }
    assert rates["GRU"] > 0.9
    assert 0.3 < rates["no memory"] < 0.7
    assert (tmp_path / recurrent_ppo.CURVES).read_bytes().startswith(b"\x89PNG")


def test_curves_pool_updates() -> None:
    curve = recurrent_ppo.Curve(
        successes=[0, 0, 0, 0, 1, 2, 3, 4, 5],
        scored=[0, 0, 0, 0, 5, 5, 5, 5, 10],
        final=0.0,
        seconds=0.0,
    )
    np.testing.assert_equal(recurrent_ppo.success_rates(curve), [np.nan, 0.5, 0.5])


def test_throughput_compares_equals() -> None:
    options = ppo_throughput.Options(hidden=8, envs=4, horizon=12, minibatches=2)
    ours, theirs = ppo_throughput.make_sides(options, jax.random.key(0)).values()
    ppo_throughput.check_agreement(ours, theirs)
    cell = theirs.params["params"]["rnn"]["GRUCell_0"]
    cell["hn"]["bias"] = cell["hn"]["bias"] + 0.01
    with pytest.raises(ValueError, match="differ in their decisions"):
        ppo_throughput.check_agreement(ours, theirs)


@pytest.mark.parametrize(
    ("script", "argv", "said"),
    [
        (recurrent_ppo, "--corridor 0", "--corridor must be at least 1, not 0"),
        (
            recurrent_ppo,
            "--envs 6 --minibatches 4",
            "--envs must be a multiple of --minibatches, not 6 and 4",
        ),
        (recurrent_ppo, "--lag 32", "--lag must be below 32"),
        (recurrent_ppo, "--cells GRU GRU", "each once, not GRU GRU"),
        (recurrent_ppo, "--learning-rate nan", "--learning-rate must be positive, not nan"),
        (recurrent_ppo, "--task maze", "--task"),
        (recurrent_ppo, f"--out {__file__}", "cannot write to"),
        (ppo_throughput, "--rounds 0", "--rounds must be at least 1, not 0"),
    ],
)
def test_wrong_options_are_one_line(
    script: Any, argv: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        script.main(argv.split())
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
