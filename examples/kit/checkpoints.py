"""Checkpoints of a run.

orbax writes each into a folder of its own, and gives the folder its name once it is complete.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from kit.files import make_writable

# orbax warns of each incomplete folder that it ignores.
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoint(NamedTuple):
    """The state of a run after `step` steps."""

    step: int
    state: Any  # a pytree of arrays
    record: dict[str, Any]  # written as JSON; its "run" identifies the run


class Checkpoints:
    """The two newest checkpoints of a run."""

    def __init__(self, folder: Path) -> None:
        # Not asynchronous, because a training step may donate the arrays of its state. The state
        # must be on disk before the next step begins.
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, in ascending order."""
        return sorted(self._manager.all_steps())

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the two newest."""
        record = ocp.args.JsonSave(checkpoint.record)
        state = ocp.args.StandardSave(checkpoint.state)
        self._manager.save(checkpoint.step, args=ocp.args.Composite(record=record, state=state))

    def restore(self, like: Any, run: dict[str, Any]) -> Checkpoint | None:
        """Return the newest checkpoint that can be read, or None if there is no checkpoint.

        Damaged checkpoints that are newer are removed.

        Args:
            like: a state with the structure, shapes and dtypes of the saved one.
            run: what identifies the run.

        Raises:
            ValueError: the checkpoint is of another run, or no checkpoint can be read.
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
        """Return an item of a checkpoint, or None if it cannot be read."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except Exception:  # orbax passes on whatever its storage raises
            return None


def open_run(out: Path, products: Sequence[str], resume: bool) -> Checkpoints:
    """Return the checkpoints of a run, after a check that the run would overwrite nothing.

    Args:
        out: the folder of the run. It is created if it does not exist.
        products: the names of the files that the run writes beside its checkpoints.
        resume: whether the run continues from a checkpoint, if there is one.

    Raises:
        ValueError: the folder cannot be written, or holds a run or product that would be lost.
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
    """Return the first difference between two runs in words.

    A name that begins with two dashes is a flag, whose values are short enough to be shown.
    """
    for name, value in before.items():
        if value != now.get(name):
            other = f"with {name} {value}, not {now.get(name)}"
            what = other if name.startswith("--") else f"on another {name}"
            return f"holds a run {what}: resume it with that, or choose another --out"
    return "holds a run of another version of this script: choose another --out"
