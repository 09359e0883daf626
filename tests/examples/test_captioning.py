"""`examples/captioning.py`: what a sentence says is in its picture, what is held out is held out,
the baselines are what they are called, and each decoder sees its picture.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for needed in ("matplotlib", "optax", "sklearn", "tqdm", "tyro"):
    pytest.importorskip(needed)

import captioning
import jaxrnn
from captioning import WAYS, Captioner
from kit import captions, digits
from kit.conditioned import FeatureConditionedGRU
from kit.digits import (
    CELL,
    COLOURS,
    DIGITS,
    NEW_PAIRS,
    NEW_THINGS,
    PLURALS,
    SIDE,
    HandwrittenDigits,
    Scenes,
    say,
)

TINY = ["--pictures", "30", "--hidden", "8", "--steps", "3", "--batch", "4", "--asked", "5"]
SQUARES = HandwrittenDigits(
    np.ones((10, SIDE, SIDE)) * (np.arange(10)[:, None, None] + 1) / 10, np.arange(10)
)
"""Each digit is a square, as bright as the digit is large."""


def make_scenes(count: int = 100, fits: Any = digits.is_known) -> Scenes:
    return digits.make_scenes(SQUARES, fits, count, seed=0)


class Square(NamedTuple):
    """What is read out of the pixels."""

    middle: tuple[float, float]  # y, x
    name: str


def read_squares(image: np.ndarray) -> list[Square]:
    left, found = image.astype(float), []
    while left.any():
        y, x = np.argwhere(left.any(axis=-1))[0]
        pixel = left[y, x].copy()
        left[y : y + SIDE, x : x + SIDE] = 0
        colour = min(
            COLOURS, key=lambda c: np.abs(np.divide(COLOURS[c], 255) - pixel / pixel.max()).sum()
        )
        digit = round(10 * pixel.max() / max(COLOURS[colour])) - 1
        name = f"{colour} {DIGITS[digit]}"
        found.append(Square((y + SIDE / 2, x + SIDE / 2), name))
    return found


def expand(phrase: str) -> list[str]:
    """Two red sevens: red seven, red seven."""
    article, colour, digit = phrase.split()
    return (
        [f"{colour} {digit}"]
        if article == "a"
        else 2 * [f"{colour} {DIGITS[PLURALS.index(digit)]}"]
    )


def test_a_sentence_says_what_is_in_its_picture():
    scenes = make_scenes()
    for image, caption in zip(scenes.images, scenes.captions, strict=True):
        sentence, squares = say(caption), read_squares(image)
        axis = 1 if "left of" in sentence else 0
        halves = sentence.split(" left of " if axis else " above ")
        for half, side in zip(halves, (False, True), strict=True):
            there = sorted(
                (square.middle[1 - axis], square.name)
                for square in squares
                if (square.middle[axis] > CELL) == side
            )
            said = [name for phrase in half.split(" and ") for name in expand(phrase)]
            assert said == [name for _, name in there]


def things(caption: np.ndarray) -> set[str]:
    """Without their number and place."""
    phrases = re.split(" above | left of | and ", say(caption))
    return {expand(phrase)[0] for phrase in phrases}


def test_what_is_held_out_is_never_trained_on():
    new = {f"{colour} {DIGITS[digit]}" for colour, digit in NEW_THINGS}
    apart = [{DIGITS[digit] for digit in pair} for pair in NEW_PAIRS]
    assert len(new) == len(apart) == 10
    assert {word for name in new for word in name.split()} == {*COLOURS, *DIGITS}

    def has_new_pair(seen: set[str]) -> bool:
        return any(pair <= {name.split()[1] for name in seen} for pair in apart)

    for seen in map(things, make_scenes().captions):
        assert not seen & new
        assert not has_new_pair(seen)
    for seen in map(things, make_scenes(fits=digits.has_new_pair).captions):
        assert not seen & new
        assert has_new_pair(seen)
    assert all(seen <= new for seen in map(things, make_scenes(fits=digits.is_new).captions))

    hand, others = digits.load()
    assert len(hand.images) + len(others.images) == 1797
    assert not {*map(np.ndarray.tobytes, hand.images)} & {*map(np.ndarray.tobytes, others.images)}


def test_the_baselines():
    known = make_scenes(20)
    twice = Scenes(known.images[[3, 1, 3, 2]], known.captions[[3, 1, 3, 2]])
    most = captions.most_frequent(twice, known.images)
    assert np.array_equal(most, np.repeat(known.captions[3:4], 20, axis=0))
    dimmed = known._replace(images=known.images - (known.images > 20).astype(np.uint8) * 9)
    assert captions.score(lambda images: captions.nearest(known, images), dimmed) == (1, 1)
    shifted = np.roll(known.captions, 1, axis=0)
    exact, words = captions.score(lambda _: shifted, known)
    assert exact == 0
    lengths = [len(say(caption).split()) for caption in known.captions]
    right = sum(
        a == b
        for ours, theirs in zip(known.captions, shifted, strict=True)
        for a, b in zip(say(ours).split(), say(theirs).split(), strict=False)
    )
    assert words == pytest.approx(right / sum(lengths))


def test_a_feature_conditioned_gru_is_a_gru_with_the_features_in_its_input():
    cell = FeatureConditionedGRU(jaxrnn.GRU(4), features=3)
    params = cell.init(jax.random.key(0), 2)
    xs, seen = jax.random.normal(jax.random.key(1), (5, 2, 2)), jnp.array([[1.0, 2, 3], [4, 5, 6]])
    joined = params.gru._replace(w_x=jnp.concatenate([params.gru.w_x, params.w_c]))
    both = jnp.concatenate([xs, jnp.broadcast_to(seen, (5, 2, 3))], axis=-1)
    _, expected = jaxrnn.scan(jaxrnn.GRU(4), joined, both)
    _, ys = jaxrnn.scan(cell, params, xs, context=seen)
    np.testing.assert_allclose(ys, expected, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_each_decoder_sees_its_picture_and_no_other(way: str):
    scenes, model = make_scenes(3), Captioner(way, 8)

    @jax.jit
    def losses(images: Any, captions: Any) -> Any:
        params = model.init(jax.random.key(0))

        def one(image: Any, said: Any) -> Any:
            scene = Scenes(image[None], said[None])
            return captioning.mean_loss(model, params, scene, jax.random.key(0))

        return jax.vmap(one)(images, captions)

    told = (losses(images, scenes.captions) for images in (scenes.images[[1, 1, 2]], scenes.images))
    changed = np.not_equal(*map(np.asarray, told))
    assert changed.tolist() == [True, False, False]


def test_it_trains_and_describes(tmp_path: Path, capsys: Any):
    captioning.main([*TINY, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert all(said.count(f"  {name}") == 3 for name in ("most frequent", "nearest picture", *WAYS))
    assert {file.name for file in tmp_path.iterdir()} == {"looks.png", "weights.safetensors"}

    captioning.main(["--describe", "5", "--out", str(tmp_path)])
    rows = [row.split(maxsplit=1) for row in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[::4]] == 5 * ["truth"]
    assert len(rows) == 20
    assert (tmp_path / "described.png").exists()


@pytest.mark.parametrize("flags", [["--describe", "2"], ["--describe", "-1"], ["--hidden", "0"]])
def test_mistakes_are_one_line(flags: list[str], tmp_path: Path, capsys: Any):
    with pytest.raises(SystemExit) as stopped:
        captioning.main([*flags, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
