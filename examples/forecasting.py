"""Forecast 1,428 monthly series of the M3 competition, 18 months ahead, with one LSTM for all.

    python examples/forecasting.py                         # trains, scores, draws
    python examples/forecasting.py --forecast sales.txt    # then a series of your own

Many-to-many: after each month the network predicts quantiles of the next 18 months (Wen et al.
2017, "A multi-horizon quantile recurrent forecaster"). So one pass over a series trains on all its
months. The inputs are logarithms, relative to the last month, seasonally adjusted, and in units of
the series' own month-to-month changes. So series of any size look alike.

A first training holds out the last 18 months before the horizon, to measure how much wider the
intervals must be. The second training uses all months before the horizon. The horizon itself serves
for the scores alone."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import storage
from kit import m3, quantiles
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable, read_numbers
from kit.fitting import batches, fit
from kit.m3 import HORIZON, KINDS, YEAR, Series
from kit.quantiles import LEVELS, Fan
from kit.training import make_adamw

FIRST = 2 * YEAR  # months before the first forecast, to know the season from
FEATURES = YEAR + YEAR + 1 + len(KINDS)


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a forecaster on the M3 competition and score it, or forecast with it."""

    forecast: Path | None = None
    """A text file of monthly values, the oldest first: print forecasts and train nothing."""
    hidden: int = 48
    """Units of the LSTM."""
    members: int = 5
    """Networks whose quantiles are averaged."""
    steps: int = 300
    """Updates of each network."""
    batch: int = 64
    """Series in an update."""
    learning_rate: float = 3e-3
    """Learning rate of AdamW at the end of the warm-up."""
    limit: int = 1428
    """How many of the series to use."""
    seed: int = 0
    """Seed of the initial weights and the order of the series."""
    out: Path = Path("runs/forecasting")
    """Folder for the weights, the picture, and the forecasts of the classical methods."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "members", "steps", "batch", "limit")
        check_positive(self, "learning_rate")
        check_seed(self.seed)


class View(NamedTuple):
    """How the network sees series, after each month."""

    xs: Any  # [time, *batch, FEATURES]
    scale: Any  # [time, *batch]: the mean change from month to month so far
    base: Any  # [time, *batch, HORIZON], logarithms: the last month, moved by the season
    targets: Any  # [time, *batch, HORIZON]: what came, relative to the base
    asked: Any  # [time, *batch, HORIZON]: 1 where that is known, else 0


def view(series: Series) -> View:
    """One series `[time, ...]`."""
    logs, now = np.log(series.known), np.arange(len(series.known))[:, None]
    season = m3.find_season(logs)
    back, ahead = now - np.arange(YEAR + 1), now + np.arange(1, HORIZON + 1)
    recent = logs[np.maximum(back, 0)] - season[now, back % YEAR]
    scale = np.cumsum(np.abs(recent[:, 0] - recent[:, 1])) / (now[:, 0] + 1)
    scale = np.maximum(scale, 1e-3)[:, None]
    shape = np.concatenate([recent[:, 1:] - recent[:, :1], season[now, ahead[:, :YEAR] % YEAR]], 1)
    kind = np.tile(np.eye(len(KINDS))[series.kind], (len(now), 1))
    xs = np.concatenate([np.clip(shape / scale, -20, 20) / 2, np.log(scale) + 3, kind], axis=1)
    base = recent[:, :1] + season[now, ahead % YEAR]
    asked = (now >= FIRST) & (ahead < len(now))
    targets = np.where(asked, logs[np.minimum(ahead, len(now) - 1)] - base, 0)
    return View(xs, scale[:, 0], base, targets, asked)


def views(series: Sequence[Series]) -> tuple[View, np.ndarray]:
    """Series side by side, and their lengths."""
    padded = [jaxrnn.sequences.pad(arrays) for arrays in zip(*map(view, series), strict=True)]
    return View(*(array.xs.astype(np.float32) for array in padded)), padded[0].lengths


def read(cell: jaxrnn.Cell, params: Any, xs: Any, scale: Any) -> jax.Array:
    """The quantiles `[time, batch, HORIZON, levels]`, relative to the base."""
    _, ys = jaxrnn.scan(cell, params, xs)
    ys = ys.reshape(*ys.shape[:-1], HORIZON, len(LEVELS))
    return quantiles.in_order(ys) * scale[..., None, None]


def mean_loss(cell: jaxrnn.Cell, params: Any, batch: View, _: jax.Array) -> jax.Array:
    losses = quantiles.pinball(read(cell, params, batch.xs, batch.scale), batch.targets)
    return jnp.mean(losses, where=batch.asked[..., None] == 1)


def train(cell: jaxrnn.Cell, series: Sequence[Series], o: Options, name: str) -> Any:
    """The parameters of the members, side by side."""
    loss, optimizer = partial(mean_loss, cell), make_adamw(o.learning_rate, o.steps, o.steps // 10)
    members, seen = [], views(series)[0]
    for seed in range(o.seed, o.seed + o.members):
        some, params = (
            batches(seen, o.batch, seed, axis=1),
            cell.init(jax.random.key(seed), FEATURES),
        )
        members.append(fit(loss, params, some, optimizer, o.steps, f"{name} {len(members) + 1}"))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def predict(cell: jaxrnn.Cell, members: Any, series: Sequence[Series]) -> np.ndarray:
    """Logarithms `[series, HORIZON, levels]` after the last known month of each."""
    seen, lengths = views(series)
    each = jax.jit(jax.vmap(lambda params: read(cell, params, seen.xs, seen.scale)))(members)
    mean = np.mean(each, axis=0) + seen.base[..., None]
    return mean[lengths - 1, np.arange(len(series))]


def score(o: Options) -> None:
    make_writable(o.out)
    series = m3.load(o.limit)
    before, truth = [s.held_back() for s in series], np.array([s.future for s in series])
    cell = jaxrnn.Readout(jaxrnn.LSTM(o.hidden), HORIZON * len(LEVELS))
    logs = predict(cell, train(cell, before, o, "held back"), before)
    came = np.array([s.future for s in before])
    factors = quantiles.fit_factors(logs, np.log(came))
    print(f"{HORIZON} months held back: sMAPE {m3.smape(np.exp(logs[..., 2]), came).mean():.2f} %")
    members = train(cell, series, o, "all")
    storage.save_tree(o.out / "weights.safetensors", (members, factors), (cell, o.members))

    found = np.exp(quantiles.stretch(predict(cell, members, series), factors))
    rivals = m3.classical_forecasts(series, o.out / "classical.npz")
    print(f"{len(series):,} series, {HORIZON} months ahead:")
    errors = {}
    for name, point in (rivals | {"LSTM": found[..., 2]}).items():
        errors[name] = m3.smape(point, truth).mean()
        print(f"  {name:<16}sMAPE {errors[name]:6.2f} %    MASE {m3.mase(point, series):.3f}")
    for name, share in quantiles.coverage(found, truth).items():
        print(f"  within the {name} interval: {share:.1%}")
    said = ", ".join(f"{name} {error:.1f} %" for name, error in errors.items())
    draw(o, series, found, rivals["seasonal naive"], f"sMAPE of all {len(series):,}: {said}")
    print(f"{o.out}: weights.safetensors, fans.png")


def draw(
    o: Options, series: Sequence[Series], found: np.ndarray, naive: np.ndarray, said: str
) -> None:
    """Of each kind, the series that is forecast neither well nor badly."""
    errors, fans = m3.smape(found[..., 2], np.array([s.future for s in series])), []
    for kind, name in enumerate(KINDS):
        of_kind = [k for k in np.argsort(errors) if series[k].kind == kind]
        for k in of_kind[len(of_kind) // 2 :][:1]:
            title = f"{name.lower()}, {series[k].name}: sMAPE {errors[k]:.1f} %"
            fans.append(Fan(title, series[k].known, series[k].future, found[k], naive[k]))
    title = f"M3 competition: in each category, the monthly series of median error\n{said}"
    quantiles.draw_fans(o.out / "fans.png", fans, title=title, other="seasonal naive")


def forecast(o: Options, path: Path) -> None:
    """Print the quantiles of the months after a series of the user's own."""
    known = np.array(read_numbers(path))
    if len(known) < 3 * YEAR or not np.all((known > 0) & np.isfinite(known)):
        raise ValueError(f"{path} must hold at least {3 * YEAR} positive numbers, a month each")
    (members, factors), (cell, _) = storage.load_tree(o.out / "weights.safetensors", shapes)
    mine = Series(path.name, KINDS.index("OTHER"), known, np.full(HORIZON, np.nan))
    (found,) = np.exp(quantiles.stretch(predict(cell, members, [mine]), factors))
    print("month" + "".join(f"{f'{level:.1%}':>12}" for level in LEVELS))
    for month, row in enumerate(found, start=1):
        print(f"{month:>5}" + "".join(f"{value:>12.6g}" for value in row))


def shapes(metadata: tuple[jaxrnn.Cell, int]) -> Any:
    """What the file of weights holds."""
    cell, members = metadata
    keys = jax.random.split(jax.random.key(0), members)
    return jax.vmap(partial(cell.init, in_features=FEATURES))(keys), np.zeros(2, np.float32)


@command(Options)
def main(o: Options) -> None:
    forecast(o, o.forecast) if o.forecast else score(o)


if __name__ == "__main__":
    main()
