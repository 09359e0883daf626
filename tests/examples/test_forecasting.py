"""`examples/forecasting.py`: nothing looks ahead, the units of a series do not matter, intervals
hold what they should, and the horizon chooses nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

for needed in ("matplotlib", "optax", "tqdm", "tyro"):
    pytest.importorskip(needed)

import forecasting
from kit import m3, quantiles
from kit.m3 import HORIZON, YEAR, Series

TINY = ["--hidden", "4", "--members", "2", "--steps", "3", "--batch", "4"]


def make_series(seed: int, months: int = 70, season: float = 0.3, noise: float = 0.05) -> Series:
    """With a trend and a season, in logarithms."""
    draw = np.random.default_rng(seed)
    t = np.arange(months + HORIZON)
    logs = 5 + 0.01 * t + season * np.sin(2 * np.pi * t / YEAR) + draw.normal(0, noise, len(t))
    return Series(f"S{seed}", seed % 6, np.exp(logs[:months]), np.exp(logs[months:]))


def test_a_season_is_found_and_none_where_there_is_none():
    season = m3.find_season(np.log(make_series(0, noise=1e-3).known))
    truth = 0.3 * np.sin(2 * np.pi * np.arange(YEAR) / YEAR)
    np.testing.assert_allclose(season[-1], truth, atol=0.01)
    assert np.all(season[:YEAR] == 0)
    none = m3.find_season(np.log(make_series(0, season=0).known))
    assert np.abs(none[-1]).max() < 0.05


def test_nothing_looks_ahead_and_the_unit_does_not_matter():
    series = make_series(1)
    seen = forecasting.view(series)
    logs, k = np.log(series.known), 50
    np.testing.assert_allclose(  # pyright: ignore[reportCallIssue]
        seen.base[k] + seen.targets[k], logs[k + 1 : k + 1 + HORIZON]
    )
    assert seen.asked[k].all()
    assert not seen.asked[forecasting.FIRST - 1].any()
    assert seen.asked[60].tolist() == [True] * 9 + [False] * 9
    changed = forecasting.view(series._replace(known=np.append(series.known[: k + 1], [7.0] * 19)))
    for name in ("xs", "scale", "base"):
        np.testing.assert_array_equal(getattr(seen, name)[: k + 1], getattr(changed, name)[: k + 1])
    larger = forecasting.view(series._replace(known=1000 * series.known))
    np.testing.assert_allclose(larger.xs, seen.xs, atol=1e-6)
    np.testing.assert_allclose(larger.targets, seen.targets, atol=1e-9)


def test_stretched_intervals_hold_their_share():
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(400, HORIZON))
    narrow = np.tile([-1.0, -0.7, 0.0, 0.7, 1.0], (400, HORIZON, 1))
    factors = quantiles.fit_factors(narrow, truth)
    np.testing.assert_allclose(factors, [1.2816 / 0.7, 1.96], rtol=0.05)
    found = quantiles.coverage(quantiles.stretch(narrow, factors), truth)
    assert found == pytest.approx({"80 %": 0.8, "95 %": 0.95}, abs=1e-3)


def test_the_loss_is_least_at_the_quantiles():
    truth = np.random.default_rng(0).exponential(size=4001)
    right = np.quantile(truth, quantiles.LEVELS)

    def loss(values: np.ndarray) -> np.ndarray:
        return np.asarray(quantiles.pinball(np.tile(values, (4001, 1)), truth)).mean(0)  # pyright: ignore[reportArgumentType]

    assert np.all(loss(right) < loss(right + 0.05))
    assert np.all(loss(right) < loss(right - 0.05))


def test_the_scores_are_those_of_the_competition():
    assert m3.smape(np.array([[1.0, 3.0]]), np.array([[3.0, 3.0]])).tolist() == [50.0]
    flat = Series("flat", 0, np.arange(24.0) + 1, np.full(HORIZON, 30.0))
    assert m3.mase(np.full((1, HORIZON), 36.0), [flat]) == pytest.approx(0.5)
    try:
        series = m3.load()
    except ValueError as missing:
        pytest.skip(str(missing))
    naive = np.array([m3.seasonal_naive(s.known) for s in series])
    assert len(series) == 1428
    assert m3.smape(naive, np.array([s.future for s in series])).mean() == pytest.approx(
        17.23, abs=0.01
    )


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m3, "load", lambda limit: [make_series(k, months=60 + k) for k in range(6)])
    monkeypatch.setattr(m3, "RIVALS", {"seasonal naive": m3.seasonal_naive})


def test_it_trains_and_forecasts(few, tmp_path: Path, capsys: Any, monkeypatch: Any):
    forecasting.main([*TINY, "--out", str(tmp_path)])
    said, weights = capsys.readouterr().out, (tmp_path / "weights.safetensors").read_bytes()
    assert "6 series" in said
    assert {"classical.npz", "fans.png"} < {file.name for file in tmp_path.iterdir()}

    (tmp_path / "mine.txt").write_text("\n".join(map(str, make_series(9).known)))
    forecasting.main(["--forecast", str(tmp_path / "mine.txt"), "--out", str(tmp_path)])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["month", "2.5%", "10.0%", "50.0%", "90.0%", "97.5%"]
    table = np.array([row.split() for row in rows], float)
    assert table[:, 0].tolist() == list(range(1, HORIZON + 1))
    assert np.all(np.diff(table[:, 1:]) >= 0)

    others = [s._replace(future=s.future[::-1] * 3) for s in m3.load(6)]
    monkeypatch.setattr(m3, "load", lambda limit: others)
    forecasting.main([*TINY, "--out", str(tmp_path)])
    assert (tmp_path / "weights.safetensors").read_bytes() == weights  # the horizon chose nothing


@pytest.mark.parametrize("text", ["1 2 3", "1 two", " ".join(["0"] * 40), "nan " * 40])
def test_a_series_that_cannot_be_forecast_is_refused(text: str, tmp_path: Path, capsys: Any):
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        forecasting.main(["--forecast", str(tmp_path / "mine.txt"), "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "mine.txt" in capsys.readouterr().err
