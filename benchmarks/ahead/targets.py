"""The accelerators that programs are compiled for, without one at hand, and what is counted of a
program.
"""

import dataclasses
import math
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
from jax.experimental import topologies

from benchmarks.ahead import thunks
from benchmarks.programs import Program

DEVICES = 4

Compiled = Any
"""What `jax.stages.Lowered.compile` gives."""


@dataclasses.dataclass(frozen=True)
class Loop:
    """One turn of a loop, loops within it aside."""

    turns: tuple[int, ...]
    """How often it and those around it turn, outermost first."""
    cost: int
    parts: dict[str, int]
    """What the cost is made of."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """What is known of a program without running it."""

    cost: int
    """Of one run, in the target's unit."""
    temp_bytes: int
    """Temporaries in the device's memory."""
    loops: list[Loop]
    collectives: dict[str, int]
    """How many exchange data between devices, outside loops and inside."""


class Target(ABC):
    """An accelerator, four of them side by side."""

    platform: ClassVar[Literal["gpu", "tpu"]]
    name: ClassVar[str]
    unit: ClassVar[str]

    @cached_property
    def devices(self) -> list[Any]:
        """They can be compiled for, and hold no arrays."""
        return [*self._topology().devices]

    def count(self, lowered: jax.stages.Lowered) -> Counted:
        """Compile, and count."""
        with tempfile.TemporaryDirectory() as dump:
            compiled: Compiled = lowered.compile(compiler_options=self._options(dump))
            program = Program(compiled.as_text() or "")
            loops = self._loops(program, Path(dump))
        places = ["inside" if op.loops else "outside" for op in program.collectives()]
        return Counted(
            cost=sum(math.prod(loop.turns) * loop.cost for loop in loops),
            temp_bytes=compiled.memory_analysis().temp_size_in_bytes,
            loops=loops,
            collectives=dict(Counter(places)),
        )

    @abstractmethod
    def _topology(self) -> Any: ...

    @abstractmethod
    def _options(self, dump: str) -> dict[str, Any]:
        """Of the compiler, which may write to a folder."""

    @abstractmethod
    def _loops(self, program: Program, dump: Path) -> list[Loop]:
        """What stands outside loops, and each loop."""


class H100(Target):
    """Launches by the host. Products are left to cuBLAS, for which of its own kernels is faster
    the compiler finds out on the device.
    """

    platform = "gpu"
    name = "NVIDIA H100"
    unit = "launches"

    CONFIG: ClassVar[str] = """
        gpu_device_info {
          cuda_compute_capability { major: 9 }
          core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
          threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
          shared_memory_per_core: 233472 l2_cache_size: 52428800
          device_memory_size: 84942979072 memory_bandwidth: 3352320000000
        }
        platform_name: "CUDA"
        dnn_version_info { major: 9 minor: 8 }
        runtime_version { major: 12 minor: 8 patch: 0 }
        device_description_str: "NVIDIA H100 80GB HBM3"
        """

    def _topology(self) -> Any:
        return topologies.get_topology_desc(
            platform="cuda", target_config=self.CONFIG, topology=f"1x1x{DEVICES}"
        )

    def _options(self, dump: str) -> dict[str, Any]:
        return {
            "xla_gpu_enable_triton_gemm": False,
            "xla_dump_to": dump,
            "xla_dump_hlo_as_text": True,
        }

    def _loops(self, program: Program, dump: Path) -> list[Loop]:
        # the second is written only if there was something to change
        written = [*dump.glob("*thunk_sequence.txt"), *dump.glob("*_after_thunk_passes.txt")]
        forest = thunks.parse(written[-1].read_text(encoding="utf-8"))
        return [
            Loop(body.loops, body.launches, dict(Counter(thunk.role for thunk in body.thunks)))
            for body in thunks.bodies(forest, program.turns())
        ]


class V5e(Target):
    """Cycles, as the compiler estimates them."""

    platform = "tpu"
    name = "TPU v5e"
    unit = "cycles"

    def _topology(self) -> Any:
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")

    def _options(self, dump: str) -> dict[str, Any]:
        del dump
        return {}

    def _loops(self, program: Program, dump: Path) -> list[Loop]:
        del dump
        parts: dict[tuple[int, ...], Counter[str]] = {}
        for op in program.operations():
            of_loop = parts.setdefault(op.loops, Counter())
            if op.cycles:
                of_loop[op.name] += op.cycles
        return [Loop(turns, sum(found.values()), dict(found)) for turns, found in parts.items()]


TARGETS: dict[str, Target] = {target.platform: target for target in (H100(), V5e())}
