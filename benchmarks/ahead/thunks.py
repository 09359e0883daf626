"""Read what XLA's GPU compiler says that a program launches: its dump of *thunks*, of which the
host runs one after the other.

A thunk is a kernel, a product by cuBLAS, a copy, a loop, or a command buffer (a CUDA graph), which
holds several and is launched as one.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator

_LABEL = re.compile(r"^\s*(condition|body|branch.*):\s*$")
_THUNK = re.compile(r"^(\s*)\d+: (k\w+)\s+\[[^\]]*\]\s*(.*)$")
_ONE_THREAD = "grid: [1, 1, 1] threads: [1, 1, 1]"

TOGETHER = ("kDynamicSliceFusion", "kDynamicSlice", "kSequential")
"""Thunks that launch all that they hold, and nothing themselves."""

_ROLES = ("dynamic_update_slice", "concatenate", "transpose", "reduce")
"""In the names of kernels, which the compiler makes from the operation that ends them."""


@dataclasses.dataclass
class Thunk:
    """One line of the dump, and what stands under it."""

    kind: str
    about: str = ""
    """The name of the kernel, and how many threads run it."""
    part: str = ""
    """The part of a loop that it stands in."""
    children: list["Thunk"] = dataclasses.field(default_factory=list)

    @property
    def role(self) -> str:
        """What it is there for."""
        if self.kind in ("kGemm", "kCublasLtMatmul"):
            return "product"
        if self.kind == "kCommandBuffer":
            return "command buffer"
        if not self.kind.endswith("Kernel"):
            return self.kind.removeprefix("k").lower()
        if _ONE_THREAD in self.about:
            return "counter"
        return next((role for role in _ROLES if role in self.about), "pointwise")

    def kernels(self) -> int:
        """Kernels and copies in it, loops not multiplied out."""
        return sum(child.kernels() for child in self.children) if self.children else 1


@dataclasses.dataclass
class Body:
    """What one turn of a loop launches, loops within it aside; or one run of the program."""

    loops: tuple[int, ...]
    """How often it and those around it turn, outermost first."""
    launches: int = 0
    """By the host."""
    kernels: int = 0
    """On the device; more, if there are command buffers."""
    buffers: int = 0
    """Command buffers."""
    thunks: list[Thunk] = dataclasses.field(default_factory=list)


def parse(text: str) -> list[Thunk]:
    """The thunks of a dump, as a forest: a line stands under the last one that is indented less."""
    roots: list[Thunk] = []
    above: list[tuple[int, Thunk]] = []
    part = ""
    for line in text.splitlines():
        if label := _LABEL.match(line):
            part = label[1]
        elif found := _THUNK.match(line):
            indent, thunk = len(found[1]), Thunk(found[2], found[3])
            while above and above[-1][0] >= indent:
                above.pop()
            siblings = above[-1][1].children if above else roots
            if above:
                thunk.part = part or (siblings[-1].part if siblings else "")
            siblings.append(thunk)
            above.append((indent, thunk))
            part = ""
    return roots


def bodies(thunks: Iterable[Thunk], turns: Iterable[int]) -> list[Body]:
    """The program's own body and that of each loop, in the order of the dump.

    `turns` says how often each loop turns, in that order. Conditions are left out: a loop that
    turns a known number of times evaluates none.
    """
    found: list[Body] = []
    _visit(thunks, iter(turns), Body(()), found)
    return found


def _visit(thunks: Iterable[Thunk], turns: Iterator[int], body: Body, found: list[Body]) -> None:
    found.append(body)
    for thunk in thunks:
        if thunk.kind == "kWhile":
            inside = [child for child in thunk.children if child.part != "condition"]
            _visit(inside, turns, Body((*body.loops, next(turns, 1))), found)
            continue
        kernels, together = thunk.kernels(), thunk.kind in TOGETHER
        body.launches += kernels if together else 1
        body.kernels += kernels
        body.buffers += thunk.kind == "kCommandBuffer"
        body.thunks += thunk.children if together else [thunk]
