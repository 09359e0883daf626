"""Compile and count all sides of a case, on all cores."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.ahead import sides
from benchmarks.ahead.sides import KINDS, OURS, Case
from benchmarks.ahead.targets import Counted, Target

Record = dict[str, Any]


def of_case(case: Case, target: Target, blocks: tuple[int, ...] = ()) -> Record:
    """Forward pass and training step of jaxrnn, of it with other blocks, and of its peers."""
    given = sides.forms(case)
    applies = {OURS: sides.ours(case, sides.method(target)), **sides.peers(case)}
    for block in blocks:
        applies[f"{OURS}, block={block}"] = sides.ours(case, sides.method(target, block))
    lowered = {
        (side, kind): make()
        for side, apply in applies.items()
        for kind, make in sides.on_one_device(apply, given, target).items()
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = dict(zip(lowered, pool.map(target.count, lowered.values()), strict=True))
    return {
        "device": target.name,
        "cell": case.cell,
        "shape": case.shape.label,
        "dtype": case.dtype,
        "unit": target.unit,
        "sides": {
            side: {kind: _figures(counted[side, kind]) for kind in KINDS} for side in applies
        },
        "loops": {kind: _loops(counted[OURS, kind]) for kind in KINDS},
    }


def of_split(case: Case, target: Target) -> list[Record]:
    """Where the training step exchanges data, its batch over all devices, told in each way."""
    apply, given = sides.ours(case, sides.method(target)), sides.forms(case)
    lowered = [sides.split(apply, given, target, told) for told in sides.TOLD]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = [*pool.map(target.count, lowered)]
    return [
        {
            "device": target.name,
            "cell": case.cell,
            "shape": case.shape.label,
            "dtype": case.dtype,
            "told": told,
            "collectives": {
                place: found.collectives.get(place, 0) for place in ("inside", "outside")
            },
            "training": _figures(found),
        }
        for told, found in zip(sides.TOLD, counted, strict=True)
    ]


def _figures(counted: Counted) -> dict[str, int]:
    return {"cost": counted.cost, "temp_bytes": counted.temp_bytes}


def _loops(counted: Counted) -> list[Record]:
    """The loops that stand in no other, and those in them."""
    return [
        {"turns": loop.turns, "cost": loop.cost, "parts": loop.parts}
        for loop in counted.loops
        if loop.turns
    ]
