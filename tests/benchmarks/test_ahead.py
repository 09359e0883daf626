"""Programs compiled ahead: what is read of them, and what is promised. No compiler is needed."""

from typing import Any

import pytest

pytest.importorskip("tyro")

from benchmarks.ahead import command_line, plan, promises, sides, tables
from benchmarks.ahead.promises import GPU, TPU, Promise, beside, per_step
from benchmarks.ahead.thunks import bodies, parse
from benchmarks.plan import Shape

THUNKS = """\
000: kCommandBuffer [source       | next=003 (1)] 
    001: kCustomKernel [source | sink] loop_broadcast_fusion grid: [128, 1, 1] threads: [128, 1, 1]
    002: kCopy         [source | sink] kCopy
003: kWhile         [prev=000 (1) | next=016 (1)]   
condition:
    004: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1] threads: [1, 1, 1]
  body:
    005: kDynamicSliceFusion [source       | next=007 (1)] params=1, results=1
        006: kCopy [source | sink] kCopy
    007: kWhile              [prev=006 (1) | next=014 (1)]       
condition:
        008: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1] threads: [1, 1, 1]
      body:
        009: kCublasLtMatmul [source | next=010 (1)] kCublasLtMatmul
        010: kCustomKernel   [prev=009 (1) | sink] loop_multiply_fusion_5 grid: [128, 1, 1] \
threads: [128, 1, 1]
        011: kCustomKernel   [prev=010 (1) | sink] input_concatenate_fusion grid: [128, 1, 1] \
threads: [128, 1, 1]
        012: kCustomKernel   [prev=010 (1) | sink] loop_dynamic_update_slice_fusion grid: [9, 1, 1]
        013: kCustomKernel   [prev=012 (1) | sink] loop_add_fusion grid: [1, 1, 1] \
threads: [1, 1, 1]  shared_memory: 0 bytes
    014: kGemm [prev=007 (1) | sink] kGemm
016: kCustomKernel  [prev=003 (1) | sink] wrapped_transpose grid: [8, 1, 1] threads: [128, 1, 1]
"""  # noqa: W291


def test_launches_are_those_of_the_host():
    """A graph is one; a condition is none; a slice is as many as it holds."""
    main, outer, inner = bodies(parse(THUNKS), [4, 8])
    assert (main.loops, main.launches, main.kernels, main.buffers) == ((), 2, 3, 1)
    assert (outer.loops, outer.launches, outer.kernels) == ((4,), 2, 2)
    assert (inner.loops, inner.launches, inner.kernels) == ((4, 8), 5, 5)


def test_each_launch_is_named_by_what_it_is_for():
    main, outer, inner = bodies(parse(THUNKS), [4, 8])
    assert [thunk.role for thunk in main.thunks] == ["command buffer", "transpose"]
    assert [thunk.role for thunk in outer.thunks] == ["copy", "product"]
    assert [thunk.role for thunk in inner.thunks] == [
        *("product", "pointwise", "concatenate", "dynamic_update_slice", "counter")
    ]


def row(ours: int, theirs: int, temp: int = 2**24, device: str = GPU) -> dict[str, Any]:
    """A case of ten steps."""

    def side(cost: int, temp_bytes: int) -> dict[str, Any]:
        return {kind: {"cost": cost, "temp_bytes": temp_bytes} for kind in sides.KINDS}

    return {
        "device": device,
        "cell": "LSTM",
        "shape": "2x10x3x4",
        "dtype": "float32",
        "unit": "launches" if device == GPU else "cycles",
        "loops": {
            kind: [{"turns": [4, 8], "cost": 2, "parts": {"product": 1, "counter": 1}}]
            for kind in sides.KINDS
        },
        "sides": {
            "jaxrnn": side(ours, temp),
            "jaxrnn, block=8": side(1, 1),
            "lax.scan": side(2 * theirs, 2**25),
            "lax.scan, hoisted": side(theirs, 2**26),
        },
    }


def test_ratios_are_to_the_best_peer_in_each_figure():
    """Other plans of jaxrnn's own are no peers."""
    assert per_step("forward")(row(20, 40)) == 2.0
    assert beside("training", "cost")(row(20, 40)) == 0.5
    assert beside("training", "temp_bytes")(row(20, 40)) == 0.5
    small = row(20, 40, temp=0)
    for side in small["sides"].values():
        side["training"]["temp_bytes"] //= 2**10
    assert beside("training", "temp_bytes")(small) is None


def test_a_broken_promise_is_named():
    promise = Promise("launches", beside("forward", "cost"), most=1.0, goal=0.5, device=GPU)
    slow = {**row(41, 40), "cell": "GRU"}
    rows = [row(20, 40), slow, row(90, 40, device=TPU)]
    (found,) = promise.broken(rows)
    assert "GRU 2x10x3x4 float32: launches 1.02, promised at most 1" in str(found)
    assert "met by 1 of 2" in promise.line(rows)


def test_a_collective_in_a_loop_breaks_a_promise():
    split = {**row(20, 40), "told": "arrays", "collectives": {"inside": 0, "outside": 3}}
    assert not promises.broken([], [split])
    split["collectives"]["inside"] = 2
    (found,) = promises.broken([], [split])
    assert "told by arrays: collectives in loops 2" in str(found)
    split |= {"cell": "Attention, dot", "collectives": {"inside": 1, "outside": 3}}
    assert not promises.broken([], [split])  # known, of this cell alone
    assert promises.broken([], [{**split, "told": "types"}])  # and only if jaxrnn does not hear


def test_the_table_has_a_row_for_each_case():
    split = {**row(20, 40), "told": "in_shardings", "collectives": {"inside": 0, "outside": 3}}
    result = {"cases": [row(20, 40), row(30_000, 40_000, device=TPU)], "splits": [split]}
    text = tables.text(result)
    assert "| LSTM 2x10x3x4 float32" in text
    assert "|    2.00 |      4.00 |  0.50 |" in text
    assert "|    3.00 |      4.00 |  0.75 |" in text
    assert "| NVIDIA H100, LSTM" in text
    assert "| LSTM training      | 4 x 8 |        2 |       1 |" in text
    assert "Counted, never timed" in text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", sides.CELLS)
def test_what_is_compiled_can_be_traced(cell, dtype):
    """jaxrnn and its peers take the same forms and give the same."""
    import jax

    from benchmarks.measure import training_step

    case = sides.Case(cell, Shape(2, 8, 4, 4), dtype)
    given = sides.forms(case)
    applies = [sides.ours(case, "bptt"), *sides.peers(case).values()]
    outputs = [jax.eval_shape(training_step(apply), *given) for apply in applies]
    assert outputs[0][0] == given.dys
    assert all(jax.tree.leaves(other) == jax.tree.leaves(outputs[0]) for other in outputs[1:])


def test_the_command_line_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="no cell is called 'LSTN'"):
        command_line.Options(cells=("LSTN",))
    with pytest.raises(ValueError, match="shape is '3x4'"):
        command_line.Options(shapes=("3x4",))


def test_the_sweep_is_all_shapes_of_a_cell():
    options = command_line.Options(cells=("GRU",), shapes=("sweep",))
    assert len(options.plan().cases) == len(set(plan.SWEEP)) == 24
    assert options.partial
    assert not command_line.Options().partial
