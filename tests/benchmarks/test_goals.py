"""Goals on a made-up record, and the names of machines."""

import pytest

pytest.importorskip("tyro")

from benchmarks import goals
from benchmarks.machine import Processor, processor


def ms(value):
    return {"step_ms": {"min": value}}


def side(step, forward, temp):
    return {
        "step_ms": {"min": step},
        "forward_ms": {"min": forward},
        "step": {"temp_bytes": temp},
        "forward": {"temp_bytes": temp},
    }


def row(cell, own, scale):
    """One of jaxrnn's speed times `scale`."""
    return {
        "cell": cell,
        "shape": {"batch": 16, "time": 3, "in_features": 4, "hidden": 5},
        "sides": {
            "jaxrnn": side(own, own / 2, 40),
            "jaxrnn on 2 devices": side(own / 1.6, own, 20),
            "linen": side(scale * own, own, 100),
            "torch": side(2 * scale * own, own, None),
        },
        "products": {
            "step": [{"times": 2.0, "ms": own / 4}],
            "forward": [{"times": 1.0, "ms": own / 8}],
        },
    }


def beside(what, own, **others):
    sides = {"jaxrnn": own, **others}
    return [{"what": what, "side": name, **ms(value)} for name, value in sides.items()]


RECORD = {
    "peers": [
        row("LSTM", 1.0, 0.8),
        row("LSTM", 2.0, 1.25),
        row("GRU", 4.0, 2.0),
        row("Elman", 3.0, 2.0),
    ],
    "acting": [
        *beside("a", 2.0, linen=1.9, nnx=3.0, by_hand=0.1),
        *beside("b", 1.0, linen=2.0, nnx=1.2),
    ],
    "populations": [
        *beside("a", 2.0, **{"by hand": 3.0, "jaxrnn, batch axis": 1.0}),
        *beside("b", 2.0, **{"by hand": 2.2}),
    ],
    "first_result": [
        *beside("import", 600.0, jax=450.0),
        *beside("trace and compile, T = 32", 100.0, **{"lax.scan": 80.0}),
        *beside("trace and compile, T = 512", 130.0, **{"lax.scan": 100.0}),
        {"what": "call, 20 times", "side": "jaxrnn", "calls": 20, **ms(3.0)},
        {"what": "call, 20 times", "side": "compiled", "calls": 20, **ms(1.4)},
    ],
}

EXPECTED = {
    "training step against the fastest JAX peer, worst shape": (0.8, False),
    "training step against the fastest JAX peer": (4**0.25, False),
    "forward against the fastest JAX peer, worst shape": (2.0, True),
    "forward against the fastest JAX peer": (2.0, True),
    "LSTM against PyTorch": (2.0, True),
    "LSTM against PyTorch, worst shape": (1.6, True),
    "GRU against PyTorch": (4.0, True),
    "Elman against PyTorch": (4.0, True),
    "temporaries of LSTM": (0.4, True),
    "temporaries of GRU": (0.4, True),
    "temporaries of Elman": (0.4, True),
    "share of the limit, training step": (0.5, False),
    "share of the limit, forward": (0.25, False),
    "two devices against one, batch of 16 and more": (1.6, True),
    "step in a user's loop against Flax's cells, worst sizes": (0.95, False),
    "vmap against vmap of lax.scan, worst sizes": (1.1, True),
    "seconds of import jaxrnn beyond import jax": (0.15, True),
    "trace and compile, of lax.scan's time, most": (1.3, True),
    "trace and compile, most steps against fewest": (1.3, False),
    "µs of a call without jit beyond the compiled": (80.0, True),
}


@pytest.mark.parametrize("goal", goals.GOALS, ids=lambda goal: goal.what)
def test_figure_of_a_goal(goal):
    figure, reached = EXPECTED[goal.what]
    assert goal.figure(RECORD) == pytest.approx(figure)
    assert goal.reached(figure) == reached


def test_a_goal_that_a_record_does_not_tell_of_is_left_out():
    assert len(goals.rows(RECORD)) == len(goals.GOALS) == len(EXPECTED)
    assert goals.rows({}) == []
    only = goals.rows({"acting": RECORD["acting"]})
    assert only == [
        ["step in a user's loop against Flax's cells, worst sizes", "0.95", "at least 1", "no"]
    ]


@pytest.mark.parametrize(
    ("found", "slug"),
    [
        (Processor("AMD EPYC", "avx512"), "amd-epyc-avx512"),
        (Processor("AMD EPYC", "avx2", 2**20, 2**25), "amd-epyc-avx2"),
        (Processor("AMD EPYC", "avx2", model="family 25"), "amd-epyc-family-25-avx2"),
        (Processor("AMD EPYC 7763 64-Core Processor", "avx2"), "amd-epyc-7763-avx2"),
        (
            Processor("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "avx512"),
            "intel-xeon-platinum-8370c-avx512",
        ),
        (Processor("arm"), "arm"),
        (Processor(""), "unknown"),
    ],
)
def test_slug_of_a_processor(found, slug):
    assert found.slug == slug


def test_processor_is_read_from_what_the_kernel_tells(tmp_path):
    cpuinfo, caches = tmp_path / "cpuinfo", tmp_path / "cache"
    cpuinfo.write_text(
        "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: A chip\n"
        "flags\t\t: fpu avx avx2 avx512f\n\nflags\t: none\n"
    )
    for index, (level, size) in enumerate((("1", "48K"), ("2", "1024K"), ("3", "32M"))):
        folder = caches / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "level").write_text(level + "\n")
        (folder / "size").write_text(size + "\n")
    told = Processor("A chip", "avx512", 2**20, 2**25, "family 25 model 17")
    assert processor(cpuinfo, caches) == told
    cpuinfo.write_text("Features\t: fp asimd\n")
    neon = processor(cpuinfo, tmp_path / "none")
    assert neon.vectors == "neon"
    assert neon.l2 is None
    assert processor(tmp_path / "none", tmp_path / "none").name
