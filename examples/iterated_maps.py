"""Recurrences as iterated maps: the quadratic map, and a network of one unit before and after
training.

    python examples/iterated_maps.py

The quadratic map x' = r x (1 - x) has the fixed points 0, where its slope is r, and 1 - 1 / r, with
the slope 2 - r. A fixed point with a slope between -1 and 1 attracts its neighbours: it is a sink.
With a slope outside that range it repels them: it is a source. As r grows, both become sources. The
orbit then runs to a cycle of two points, to longer cycles, and to chaos. In chaos the Lyapunov
exponent, the mean of log |slope| along the orbit, is positive. `lyapunov` measures it on a cell of
the map, with a sequence for each r.

The network is h' = tanh(w h + b + w_x x). It reads a pulse of +1 or -1, then noise, and must tell
the sign of the pulse at every step. With w < 1 it has one sink, to which it returns from every
state: it forgets. Training makes w > 1. Then it has two sinks and a source between them, and stores
one bit. The same functions draw and measure both, because both are maps of the line."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn
from jaxrnn.diagnostics import Cycle, lyapunov, map_cycles, pictures
from kit import plots
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.fitting import batches, fit

LENGTHS = (30, 100, 1000)  # steps after which signs are counted; training has the first


@dataclasses.dataclass(frozen=True)
class Options:
    """Find fixed points and cycles of the quadratic map and of a trained network of one unit."""

    rates: tuple[float, float, float, float] = (0.8, 2.8, 3.3, 3.9)
    """The values of r of the quadratic map, one for each column of the picture."""
    updates: int = 600
    """Updates of the network."""
    noise: float = 0.4
    """Standard deviation of the inputs after the pulse."""
    grid: int = 600
    """The number of values of r for which the Lyapunov exponent is measured."""
    steps: int = 3000
    """The number of steps over which it is measured."""
    seed: int = 0
    """Seed of the pulses and the noise."""
    out: Path = Path("runs/iterated_maps")
    """Folder for the picture."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "updates", "grid")
        check_at_least(self, 100, "steps")
        check_positive(self, "rates", "noise")
        if max(self.rates) > 4:
            raise ValueError(
                f"--rates must be at most 4, where x stays in [0, 1], not {self.rates}"
            )
        check_seed(self.seed)


@dataclasses.dataclass(frozen=True)
class Quadratic(jaxrnn.Cell):
    """The quadratic map, whose r is the input."""

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> tuple:
        return ()

    def initial_carry(self, params: tuple, input_shape: tuple[int, ...]) -> Array:
        return jnp.full(input_shape, 0.3)

    def step(self, params: tuple, carry: Array, u: Array, affine: Any = None) -> Any:
        x = u * carry * (1 - carry)
        return x, x

    @property
    def out_features(self) -> int:
        return 1


def quadratic(r: float) -> Any:
    return lambda x: r * x * (1 - x)


class Pulses(NamedTuple):
    """Sequences that begin with a pulse."""

    xs: np.ndarray  # [sequences, time, 1]
    signs: np.ndarray  # [sequences]


def pulses(seed: int, count: int, length: int, noise: float) -> Pulses:
    rng = np.random.default_rng(seed)
    xs = noise * rng.normal(size=(count, length, 1))
    xs[:, 0, 0] = signs = rng.choice([-1.0, 1.0], size=count)
    return Pulses(xs.astype(np.float32), signs.astype(np.float32))


CELL = jaxrnn.Elman(1, w_h_init=jax.nn.initializers.constant(0.5))


def answers(params: Any, xs: Any) -> Array:
    """`[time, sequences]`."""
    return jaxrnn.scan(CELL, params, jnp.swapaxes(xs, 0, 1))[1][..., 0]


def loss(params: Any, data: Pulses, _: Array) -> Array:
    return jnp.mean((answers(params, data.xs) - data.signs) ** 2)


def unit(params: Any) -> Any:
    """The network's step without an input."""
    return lambda h: jaxrnn.step(CELL, params, h[None], jnp.zeros(1, params.w_x.dtype))[0][0]


def train(o: Options) -> dict[str, Any]:
    """The parameters before and after."""
    before = CELL.init(jax.random.key(o.seed), 1)
    some = batches(pulses(o.seed, 4000, LENGTHS[0], o.noise), 100, o.seed, axis=0)
    after = fit(loss, before, some, optax.adam(0.02), o.updates, "one unit")
    return {"before training": before, "after training": after}


def judge(o: Options, networks: dict[str, Any]) -> None:
    """How many signs are right, after more and more steps."""
    for length in LENGTHS:
        xs, signs = pulses(o.seed + 1, 2000, length, o.noise)
        said = {name: answers(params, xs)[-1] for name, params in networks.items()}
        said["the sum of all inputs"] = jnp.asarray(xs.sum((1, 2)))
        right = (f"{name} {np.mean(np.sign(a) == signs):.1%}" for name, a in said.items())
        print(f"right after {length} steps:", ", ".join(right))


def describe(name: str, cycles: tuple[Cycle, ...]) -> None:
    for cycle in cycles:
        points = ", ".join(f"{x:.3f}" for x in cycle.points + 0.0)
        print(f"{name}: {cycle.kind} {points}, slope {cycle.slope:.3f}")


def spectrum(o: Options, rs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exponent for each r, and where the orbit is in the end, `[100, r]`."""
    xs = jnp.broadcast_to(jnp.asarray(rs)[:, None], (o.steps, len(rs), 1))
    found = lyapunov(Quadratic(), (), xs, key=jax.random.key(0), warm_up=o.steps // 4)
    states, _ = jaxrnn.trajectory(Quadratic(), (), xs)
    return np.asarray(found.exponents[:, 0]), np.asarray(states[-100:, :, 0])


def draw(o: Options, networks: dict[str, Any]) -> None:
    figure, grid = plots.make_grid(3, 4, size=(15, 11), share=False)
    for r, (above, below) in zip(o.rates, grid[:2].T, strict=True):
        cycles = [*map_cycles(quadratic(r), 0, 1), *map_cycles(quadratic(r), 0, 1, period=2)]
        describe(f"r = {r:g}", tuple(cycles))
        pictures.map_orbits(quadratic(r), [0.1, 0.101], 40, axes=above)
        above.set(title=f"r = {r:g}", ylim=(0, 1))
        pictures.cobweb(quadratic(r), 0.1, 40, 0, 1, cycles=cycles, axes=below)
        below.legend(frameon=False, loc="upper left", fontsize=8)
        below.set_ylim(-0.06, 1.25)  # room for the legend
    rs = np.linspace(2.5, 4, o.grid)
    exponents, ends = spectrum(o, rs)
    for chaos, r in zip(spectrum(o, np.array(o.rates))[0], o.rates, strict=True):
        print(f"r = {r:g}: Lyapunov exponent {chaos:.4f}")
    orbit, exponent, *maps = grid[2]
    orbit.plot(rs, ends.T, color="black", marker=",", linestyle="none")
    orbit.set(title="where orbits of the quadratic map end", xlabel="r", ylabel="x")
    exponent.axhline(0, color=plots.GREY, linestyle=plots.DASHED, linewidth=0.8)
    exponent.plot(rs, exponents, color=plots.BLUE, linewidth=0.8)
    exponent.set(title="its Lyapunov exponent", xlabel="r", ylabel="λ per step", ylim=(-1.5, 0.8))
    for (name, params), axes in zip(networks.items(), maps, strict=True):
        params = jax.tree.map(lambda leaf: leaf.astype(float), params)
        describe(f"one unit, {name}", map_cycles(unit(params), -1.3, 1.3))
        pictures.cobweb(unit(params), [-0.6, 0.6], 30, -1.3, 1.3, axes=axes)
        axes.legend(frameon=False)
        w, b = params.w_h[0, 0], params.b[0]
        axes.set(
            title=f"one tanh unit, {name}\nw = {w:.2f}, b = {b:.2f}",
            xlabel=r"$h_t$",
            ylabel=r"$h_{t+1}$",
        )
    plots.save(figure, o.out / "iterated_maps.png")


@command(Options)
def main(o: Options) -> None:
    make_writable(o.out)
    networks = train(o)
    judge(o, networks)
    with jax.enable_x64(True):
        draw(o, networks)
    print(f"{o.out}: iterated_maps.png")


if __name__ == "__main__":
    main()
