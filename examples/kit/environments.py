"""Environments in JAX that no agent solves without a memory.

An environment is a frozen dataclass. Its methods are pure functions of one state, and `jax.vmap`
runs many. When an episode ends, `step` returns the first state of the next one.
"""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

State = Any


class Outcome(NamedTuple):
    """The outcome of an action."""

    reward: Array
    done: Array  # whether the action ended its episode
    scored: Array  # whether a memory is needed to choose the action
    success: Array  # whether the action was scored, and right


class Environment(ABC):
    """A task in episodes whose success needs a memory."""

    features: int
    """The size of an observation."""
    actions: int
    """The number of actions."""
    chance: float
    """The success rate of the best agent without a memory."""
    discount: float
    """The discount factor γ."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """The largest number of steps in an episode."""

    @abstractmethod
    def reset(self, key: Array) -> State:
        """Draw the first state of an episode."""

    @abstractmethod
    def observe(self, state: State) -> Array:
        """Return the observation `[features]` of a state."""

    @abstractmethod
    def advance(self, key: Array, state: State, action: Array) -> tuple[State, Outcome]:
        """Apply an action within an episode. `step` replaces the state after its last action."""

    def step(self, key: Array, state: State, action: Array) -> tuple[State, Outcome]:
        """Apply an action, and begin a new episode if this one is over."""
        # Both use the key, but only one of the two states is kept.
        after, outcome = self.advance(key, state, action)
        return jax.tree.map(
            lambda new, old: jnp.where(outcome.done, new, old), self.reset(key), after
        ), outcome


NORTH, EAST, SOUTH, WEST = range(4)


class TMazeState(NamedTuple):
    """State of `TMaze`."""

    goal: Array  # the right action at the junction, NORTH or SOUTH
    position: Array  # 0 at the start, `length` at the junction
    time: Array  # steps since the episode began


@dataclasses.dataclass(frozen=True)
class TMaze(Environment):
    """A corridor with a junction at its end (Bakker 2002).

    A sign at the start, which is seen nowhere else, tells where to turn. Observations, actions and
    rewards are those of the paper. An observation has three bits: 011 or 110 at the start, 101 in
    the corridor, 010 at the junction. The right turn gives 4. The wrong turn gives -0.1, and so
    does a step into a wall. A turn ends the episode. Unlike in the paper, a time limit ends it,
    too, and counts as a failure.
    """

    length: int = 20
    """Steps from the start to the junction."""
    patience: int = 5
    """The time limit, as a multiple of the steps on the shortest way."""
    features: ClassVar[int] = 3
    actions: ClassVar[int] = 4
    chance: ClassVar[float] = 1 / 2
    discount: ClassVar[float] = 0.99

    @property
    def longest(self) -> int:
        """The time limit."""
        return self.patience * (self.length + 1)

    def reset(self, key: Array) -> TMazeState:
        """Draw a sign, and place the agent at the start."""
        return TMazeState(
            jnp.where(jax.random.bernoulli(key), NORTH, SOUTH), jnp.int32(0), jnp.int32(0)
        )

    def observe(self, state: TMazeState) -> Array:
        """Return the sign at the start, and the bits of the corridor or the junction elsewhere."""
        sign = jnp.where(
            state.goal == NORTH, jnp.array([0.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 0.0])
        )
        beyond = jnp.where(
            state.position == self.length, jnp.array([0.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 1.0])
        )
        return jnp.where(state.position == 0, sign, beyond)

    def advance(self, key: Array, state: TMazeState, action: Array) -> tuple[TMazeState, Outcome]:
        """Move along the corridor, or turn at the junction, or stay before a wall."""
        del key
        move = jnp.where(action == EAST, 1, jnp.where(action == WEST, -1, 0))
        position = jnp.clip(state.position + move, 0, self.length)
        turned = (state.position == self.length) & (move == 0)
        success = turned & (action == state.goal)
        reward = jnp.where(success, 4.0, jnp.where(position == state.position, -0.1, 0.0))
        after = TMazeState(state.goal, position, state.time + 1)
        done = turned | (after.time == self.longest)
        return after, Outcome(reward, done, scored=done, success=success)


class RepeatPreviousState(NamedTuple):
    """State of `RepeatPrevious`."""

    symbols: Array  # [lag + 1], the last symbols, the newest first
    time: Array  # steps since the episode began


@dataclasses.dataclass(frozen=True)
class RepeatPrevious(Environment):
    """A new symbol at every step; the right action is the symbol of `lag` steps ago.

    Source: Morad et al. 2023.
    """

    lag: int = 4
    """The number of steps between a symbol and the action that repeats it."""
    episode: int = 32
    """The number of steps in an episode, more than `lag`."""
    features: ClassVar[int] = 4  # one-hot
    actions: ClassVar[int] = 4  # one for each symbol
    chance: ClassVar[float] = 1 / 4
    discount: ClassVar[float] = 0.5  # an action is rewarded at once; later rewards are noise

    @property
    def longest(self) -> int:
        """The length of every episode."""
        return self.episode

    def reset(self, key: Array) -> RepeatPreviousState:
        """Draw a first symbol, with none before it."""
        return RepeatPreviousState(self._show(key, jnp.full(self.lag + 1, -1)), jnp.int32(0))

    def observe(self, state: RepeatPreviousState) -> Array:
        """Return the newest symbol as a one-hot vector."""
        return jax.nn.one_hot(state.symbols[0], self.features)

    def advance(
        self, key: Array, state: RepeatPreviousState, action: Array
    ) -> tuple[RepeatPreviousState, Outcome]:
        """Score an action, and draw the next symbol."""
        scored = state.time >= self.lag
        success = scored & (action == state.symbols[-1])
        after = RepeatPreviousState(self._show(key, state.symbols), state.time + 1)
        return after, Outcome(
            success.astype(jnp.float32), after.time == self.episode, scored, success
        )

    def _show(self, key: Array, symbols: Array) -> Array:
        """Draw a symbol, put it before the others, and drop the oldest."""
        return jnp.concatenate([jax.random.randint(key, (1,), 0, self.actions), symbols[:-1]])
