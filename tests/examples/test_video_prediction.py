"""`examples/video_prediction.py`: digits move and bounce as they should, errors are what they are
called, and a frame is predicted from those that may be read alone.
"""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for needed in ("matplotlib", "optax", "sklearn", "tqdm", "tyro"):
    pytest.importorskip(needed)

from PIL import Image

import jaxrnn
import video_prediction as script
from kit import digits
from kit.digits import SIDE
from kit.training import count_parameters
from kit.video import metrics, motion
from kit.video.motion import AHEAD, CANVAS, GIVEN, ROOM, SCALE, SPEED
from tests.support.helpers import assert_close
from video_prediction import WIDTHS, Lesson

HIDDEN, CLIPS = 3, 3
TINY = ["--hidden", str(HIDDEN), "--steps", "2", "--batch", "2", "--asked", str(CLIPS)]
DOT = np.zeros((1, SIDE, SIDE))
DOT[0, 3, 5] = 1


def make_clips(count: int = CLIPS, seed: int = 0) -> np.ndarray:
    images = np.random.default_rng(5).random((4, SIDE, SIDE))
    return next(motion.clips(images, count, seed))


def test_a_point_bounces_off_both_walls():
    """As one does that turns round at each wall, in steps too small to jump over it."""
    place, step, path = 3.0, 0.01, []
    for _ in range(8000):
        path.append(place)
        place += step
        if not 0 <= place <= ROOM:
            place, step = (-place if place < 0 else 2 * ROOM - place), -step
    np.testing.assert_allclose(motion.bounce(3.0 + 0.01 * np.arange(8000)), path, atol=1e-6)
    assert min(path) < 0.02
    assert max(path) > ROOM - 0.02
    np.testing.assert_allclose(motion.bounce(np.array([-1.5, ROOM + 1.5])), [1.5, ROOM - 1.5])


@pytest.mark.parametrize("corner", [(2.0, 7.0), (0.3, 9.8), (ROOM, ROOM - 0.5)])
def test_a_digit_lies_where_its_corner_says(corner: tuple[float, float]):
    frame = motion.render(DOT, np.array([corner]))
    assert frame.shape == (CANVAS, CANVAS)
    ys, xs = np.mgrid[:CANVAS, :CANVAS]
    middle = [np.sum(frame * axis) / np.sum(frame) for axis in (ys, xs)]
    np.testing.assert_allclose(middle, np.add(corner, [3 * SCALE, 5 * SCALE]), atol=0.1)


def test_nothing_leaves_the_canvas_and_the_brighter_digit_is_seen():
    whole = np.ones((2, SIDE, SIDE)) * [[[0.5]], [[0.8]]]
    for corner in ([0, 0], [ROOM, ROOM], [0, ROOM]):
        frame = motion.render(whole, np.array([corner, corner]))
        assert np.max(frame) == pytest.approx(0.8)
        inside = np.argwhere(frame > 0.79)
        assert np.ptp(inside, axis=0).tolist() == [(SIDE - 1) * SCALE // 1] * 2


def test_a_digit_moves_at_one_speed_and_turns_at_walls_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(motion, "DIGITS", 1)
    frames = next(motion.clips(DOT, 50, 1))
    ys, xs = np.mgrid[:CANVAS, :CANVAS]
    middle = [np.sum(frames * axis, axis=(2, 3)) / np.sum(frames, axis=(2, 3)) for axis in (ys, xs)]
    corners = np.stack(middle, axis=-1) - [3 * SCALE, 5 * SCALE]
    speeds = np.linalg.norm(np.diff(corners, axis=0), axis=-1)
    assert np.max(speeds) < SPEED + 0.2
    assert np.median(speeds) == pytest.approx(SPEED, abs=0.05)
    turns = np.abs(np.diff(corners, n=2, axis=0)) > 0.5
    to_wall = np.minimum(corners, ROOM - corners)[1:-1]
    assert np.sum(turns) > 50
    assert np.max(to_wall[turns]) < SPEED + 0.1


def test_clips_are_new_each_time_and_the_same_for_a_seed():
    images = digits.load()[0].images
    first, again = (list(itertools.islice(motion.clips(images, 3, 7), 2)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], next(motion.clips(images, 3, 8)))
    assert first[0].shape == (GIVEN + AHEAD, 3, CANVAS, CANVAS)
    assert first[0].dtype == np.float32
    assert np.min(first) == 0
    assert 0.9 < np.max(first) <= 1


def test_the_error_of_a_frame_is_a_sum_over_its_pixels():
    truth = np.zeros((2, 3, 4, 5))
    predicted = truth + np.array([1.0, 2.0])[:, None, None, None]
    assert metrics.frame_errors(predicted, truth).tolist() == [20, 80]
    predicted[1, 0] = 0
    assert metrics.frame_errors(predicted, truth)[1] == pytest.approx(80 * 2 / 3)


def test_ssim_is_its_formula_over_all_windows():
    draw, (time, clips, height, width) = np.random.default_rng(0), (2, 3, 12, 9)
    truth = draw.random((time, clips, height, width))
    predicted = np.clip(truth + 0.2 * draw.normal(size=truth.shape), 0, 1)
    found = np.zeros((time, clips, height - 6, width - 6))
    for t, n, y, x in np.ndindex(found.shape):
        a, b = (frames[t, n, y : y + 7, x : x + 7].ravel() for frames in (predicted, truth))
        c = np.cov(a, b)
        found[t, n, y, x] = (2 * a.mean() * b.mean() + 1e-4) * (2 * c[0, 1] + 9e-4)
        found[t, n, y, x] /= (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (c[0, 0] + c[1, 1] + 9e-4)
    np.testing.assert_allclose(metrics.ssim(predicted, truth), found.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(metrics.ssim(truth, truth), 1)


def test_the_baselines():
    frames, known = make_clips(), make_clips(5, seed=1)
    found = metrics.baselines(frames, known)
    for predicted in found.values():
        assert predicted.shape == frames[GIVEN:].shape
    assert np.array_equal(found["copy the last frame"][4, 1], frames[GIVEN - 1, 1])
    np.testing.assert_allclose(found["the mean frame"][2, 1], known.reshape(-1, 32, 32).mean(0))


def test_patches_are_of_one_place_and_can_be_put_back():
    frames = np.arange(2 * 3 * 8 * 12.0, dtype=np.float32).reshape(2, 3, 8, 12)
    patches = np.asarray(jax.jit(script.to_patches)(frames))
    assert patches.shape == (2, 3, 2, 3, 16)
    assert np.array_equal(patches[1, 2, 1, 2], frames[1, 2, 4:, 8:].ravel())
    assert np.array_equal(jax.jit(script.to_frames)(patches), frames)


@pytest.mark.parametrize("hidden", [script.Options().hidden, 32])
def test_networks_of_one_size(hidden: int):
    sizes = [
        count_parameters(jax.eval_shape(partial(script.init, name, n)))
        for name, n in script.channels(hidden).items()
    ]
    assert max(sizes) < 1.05 * min(sizes)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The beginnings of clips, in which fewer frames are seen and asked for: by hand, steps take
    long.
    """
    monkeypatch.setattr(script, "GIVEN", 2)
    monkeypatch.setattr(script, "AHEAD", 3)
    return make_clips()[: script.GIVEN + script.AHEAD]


def by_hand(cell: jaxrnn.Cell, params: Any, frames: Any, given: np.ndarray) -> jax.Array:
    """One step after the other, without a loop of JAX."""
    x, own = script.to_patches(frames), []
    carry = cell.initial_carry(params, x.shape[1:])
    for t in range(len(x) - 1):
        reads = [
            x[t, clip] if t < script.GIVEN or given[t - script.GIVEN, clip] else own[-1][clip]
            for clip in range(x.shape[1])
        ]
        carry, y = jaxrnn.step(cell, params, carry, jnp.stack(reads))
        own.append(y)
    return script.to_frames(jnp.stack(own))


@pytest.mark.parametrize("name", WIDTHS)
def test_a_coin_for_each_step_and_clip_says_what_is_read(name: str, short: np.ndarray):
    """The predictions and the gradient, which goes through the frames that are fed back."""
    cell, params = script.network(name, HIDDEN), script.init(name, HIDDEN)
    given = np.random.default_rng(0).random((script.AHEAD - 1, CLIPS)) < 0.5
    assert len({*given.ravel()}) == 2

    def value_and_gradient(predict: Any) -> Any:
        def loss(params: Any) -> Any:
            predicted = predict(cell, params, short, given)
            return jnp.sum(jnp.sin(7 * predicted)), predicted

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    assert_close(value_and_gradient(script.predict), value_and_gradient(by_hand), 1e-3)


def test_true_frames_alone_are_teacher_forcing():
    cell, params = script.network("ConvGRU", HIDDEN), script.init("ConvGRU", HIDDEN)
    frames = make_clips()

    @jax.jit
    def both_ways(params: Any, frames: Any, given: Any) -> Any:
        _, ys = jaxrnn.scan(cell, params, script.to_patches(frames[:-1]))
        return script.predict(cell, params, frames, given), script.to_frames(ys)

    found, forced = both_ways(params, frames, np.ones((AHEAD - 1, CLIPS), bool))
    assert_close(found, forced, 1e-5)


@pytest.mark.parametrize("name", WIDTHS)
def test_who_looks_ahead_sees_no_later_frame(name: str):
    hidden, frames = script.channels(HIDDEN)[name], make_clips()
    cell, params = script.network(name, hidden), script.init(name, hidden)
    found = script.look_ahead(cell, params, frames)
    assert found.shape == frames[GIVEN:].shape
    covered, changed = frames.copy(), frames.copy()
    covered[GIVEN:] = np.nan
    changed[GIVEN - 1, 0] = 0
    assert np.array_equal(script.look_ahead(cell, params, covered), found)
    differs = np.any(script.look_ahead(cell, params, changed) != np.asarray(found), axis=(0, 2, 3))
    assert differs.tolist() == [True, False, False]


def test_fewer_and_fewer_frames_are_given():
    options = script.Options(steps=12, batch=2)
    some = itertools.islice(script.lessons(digits.load()[0].images, options), 12)
    shares = [float(lesson.share) for lesson in some]
    assert shares[0] == 1
    assert shares[-1] == 0
    assert sorted(shares, reverse=True) == shares
    assert len({*shares}) > 2


def test_the_loss_is_the_error_of_all_frames(short: np.ndarray):
    cell, params = script.network("ConvLSTM", HIDDEN), script.init("ConvLSTM", HIDDEN)
    mean_error: Any = jax.jit(script.mean_error, static_argnums=0)
    for share in (0.0, 1.0):
        loss = mean_error(cell, params, Lesson(short, np.float32(share)), jax.random.key(0))
        given = np.full((script.AHEAD - 1, CLIPS), share == 1)
        predicted = jax.jit(partial(by_hand, cell, given=given))(params, short)
        errors = metrics.frame_errors(np.asarray(predicted), short[1:])
        np.testing.assert_allclose(loss, errors.mean(), rtol=1e-4)


def test_it_trains_draws_and_watches(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch):
    """With few clips for the mean frame, too."""
    monkeypatch.setattr(
        script, "clips", lambda images, count, seed: motion.clips(images, min(count, 20), seed)
    )
    script.main([*TINY, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    for name in ("the mean frame", "copy the last frame", *WIDTHS):
        (row,) = [line for line in said.splitlines() if line.startswith(name) and ":" not in line]
        numbers = [*map(float, row[len(name) :].split())]
        assert len(numbers) == 2 + AHEAD
        assert numbers[0] == pytest.approx(np.mean(numbers[2:]), abs=0.06)
    assert {file.name for file in tmp_path.iterdir()} == {
        "weights.safetensors",
        "video_prediction.png",
        "video_prediction.gif",
    }
    script.main(["--watch", str(CLIPS), "--out", str(tmp_path)])
    assert capsys.readouterr().out.startswith(f"{CLIPS} clips")
    assert (tmp_path / "watched.png").exists()
    with Image.open(tmp_path / "watched.gif") as film:
        assert getattr(film, "n_frames", 1) == GIVEN + AHEAD


@pytest.mark.parametrize("flags", [["--watch", "2"], ["--watch", "-1"], ["--hidden", "0"]])
def test_mistakes_are_one_line(flags: list[str], tmp_path: Path, capsys: Any):
    with pytest.raises(SystemExit) as stopped:
        script.main([*flags, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
