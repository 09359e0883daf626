"""Reading a compiled program: kernels, cycles, loops, and where devices exchange data."""

import pytest

from benchmarks.programs import Program, kernels

PROGRAM = """HloModule jit_step

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %e = f32[4]{0} exponential(%p)
}

%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %state = (s32[], f32[4]{0}) parameter(0)
  %h = f32[4]{0} get-tuple-element(%state), index=1
  %z = f32[4]{0} fusion(%h), kind=kLoop, calls=%fused, \
backend_config={"window_config":{},"estimated_cycles":"70"}
  %start = ((f32[4]{0}), f32[4]{0}) fusion-start(%z), calls=%fused
  ROOT %done = f32[4]{0} fusion-done(%start)
}

%condition (state: (s32[], f32[4])) -> pred[] {
  %state = (s32[], f32[4]{0}) parameter(0)
  ROOT %less = pred[] compare(%state, %state), direction=LT
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %c = f32[4]{0} copy(%x), backend_config={"estimated_cycles":"9"}
  %loop = (s32[], f32[4]{0}) while(%c), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"10"}}
  ROOT %y = f32[4]{0} get-tuple-element(%loop), index=1
}
"""


def test_kernels_of_a_loop_count_once_a_turn():
    assert kernels(PROGRAM) == 1 + 10 * 2


def test_an_unknown_number_of_turns_counts_as_one():
    assert kernels(PROGRAM.replace("known_trip_count", "unknown")) == 1 + 2


def test_cycles_of_a_loop_count_once_a_turn():
    assert Program(PROGRAM).cycles() == 9 + 10 * 70


@pytest.mark.parametrize("fused", [False, True])
def test_turns_are_read_from_the_condition_where_nothing_else_says(fused):
    """A TPU's compiler fuses the comparison."""
    text = PROGRAM.replace("known_trip_count", "unknown")
    limit = "  %n = s32[]{:T(128)} constant(12)\n"
    if fused:
        text = text.replace("compare(%state, %state), direction=LT", "fusion(%state), calls=%less")
        text = text.replace("ENTRY", f"%less (p: s32[]) -> pred[] {{\n{limit}}}\n\nENTRY")
    else:
        text = text.replace("  ROOT %less", f"{limit}  ROOT %less")
    assert Program(text).turns() == [12]


def test_loops_in_loops_multiply():
    inner = (
        "  %again = f32[4]{0} while(%z), condition=%condition, body=%inner, "
        'backend_config={"known_trip_count":{"n":"3"}}\n  ROOT %done'
    )
    body = "%inner (q: f32[4]) -> f32[4] {\n  ROOT %s = f32[4]{0} sine(%q)\n}\n\n%body"
    text = PROGRAM.replace("  ROOT %done", inner).replace("%body (", f"{body} (")
    program = Program(text)
    assert program.turns() == [10, 3]
    assert program.kernels() == 1 + 10 * (2 + 3)
    (sine,) = [op for op in program.operations() if op.name == "sine"]
    assert sine.loops == (10, 3)
    assert sine.times == 30


@pytest.mark.parametrize(
    "line",
    [
        "%r = f32[4]{0} all-reduce(%z), replica_groups={{0,1}}, to_apply=%fused",
        "%r = f32[4]{0} all-reduce-start(%z), replica_groups={{0,1}}, to_apply=%fused",
        "%r = f32[4]{0} fusion(%z), kind=kCustom, calls=%exchange",
        "%r = f32[4]{0} async-start(%z), calls=%exchange",
    ],
)
def test_collectives_are_found_in_loops_and_outside(line):
    exchange = "%exchange (p: f32[4]) -> f32[4] {\n  ROOT %g = f32[4]{0} all-gather(%p)\n}\n\n"
    text = PROGRAM.replace("ENTRY", f"{exchange}ENTRY")
    assert not Program(text).collectives()
    inside = Program(text.replace("  %start", f"  {line}\n  %start"))
    assert [op.loops for op in inside.collectives()] == [(10,)]
    outside = Program(text.replace("  %loop", f"  {line}\n  %loop"))
    assert [op.loops for op in outside.collectives()] == [()]
