"""Checkpoints of a run: orbax writes each into a folder of its own and renames that only when it is
whole.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from kit.files import make_writable

# orbax warns of each half-written folder that it passes over
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoint(NamedTuple):
    """Where a run stands after `step` steps."""

    step: int
    state: Any  # a pytree of arrays
    record: dict[str, Any]  # what fits into JSON; its "run" says which run this is


class Checkpoints:
    """The two newest checkpoints of a run."""

    def __init__(self, folder: Path) -> None:
        # Not asynchronous: a training step may give its state away, so that must be on disk before
        # the next one begins.
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def steps(self) -> list[int]:
        """Those that were written to the end."""
        return sorted(self._manager.all_steps())

    def save(self, checkpoint: Checkpoint) -> None:
        """Write one, then remove what is older than the last two."""
        record = ocp.args.JsonSave(checkpoint.record)
        state = ocp.args.StandardSave(checkpoint.state)
        self._manager.save(checkpoint.step, args=ocp.args.Composite(record=record, state=state))

    def restore(self, like: Any, run: dict[str, Any]) -> Checkpoint | None:
        """The newest checkpoint that can be read, None if there is none.

        `like` gives the structure, shapes and dtypes of the state. A checkpoint that something else
        has damaged is removed once an older one has been read.

        Raises:
            ValueError: it is of another `run`, or none of them can be read.
        """
        damaged = []
        for step in reversed(self.steps()):
            record = self._read(step, "record", ocp.args.JsonRestore())
            if record is not None and record["run"] != run:
                raise ValueError(f"{self._folder.parent} {_difference(record['run'], run)}")
            state = self._read(step, "state", ocp.args.StandardRestore(like))
            if record is not None and state is not None:
                for other in damaged:
                    self._manager.delete(other)
                return Checkpoint(step, state, record)
            damaged.append(step)
        if damaged:
            advice = "remove it to start from the beginning"
            raise ValueError(f"no checkpoint in {self._folder} can be read: {advice}")
        return None

    def _read(self, step: int, item: str, how: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except Exception:  # orbax raises whatever its storage does
            return None


def open_run(out: Path, products: Sequence[str], resume: bool) -> Checkpoints:
    """The checkpoints of a run in a folder, once it is sure that this can be written and that
    nothing in it is lost; ValueError otherwise. `products` are the names of files that the run
    writes beside them.
    """
    make_writable(out)
    checkpoints, advice = Checkpoints(out / "checkpoints"), "choose another --out"
    if not checkpoints.steps():
        for name in products:
            if (out / name).exists():
                missing = "no checkpoint to resume"
                raise ValueError(f"{out} has a {name} already, and {missing}: {advice}")
    elif not resume:
        raise ValueError(f"{out} holds a run already: go on with --resume, or {advice}")
    return checkpoints


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What sets two runs apart: a flag, if its name begins like one, or something large."""
    for name, value in before.items():
        if value != now.get(name):
            other = f"with {name} {value}, not {now.get(name)}"
            what = other if name.startswith("--") else f"on another {name}"
            return f"holds a run {what}: resume it with that, or choose another --out"
    return "holds a run of another version of this script: choose another --out"
