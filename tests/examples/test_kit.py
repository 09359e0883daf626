"""`examples/kit`: whatever goes wrong in a script is one line, and its exit status says so."""

import dataclasses
import errno
import math
import os
from pathlib import Path

import pytest

for needed in ("matplotlib", "tyro"):
    pytest.importorskip(needed)

from kit import plots
from kit.command_line import check_at_least, check_positive, command
from kit.files import make_writable, read_text


@dataclasses.dataclass(frozen=True)
class Options:
    """Nothing much."""

    rates: tuple[float, ...] = (1.0,)
    held_out: int = 1

    def __post_init__(self) -> None:
        check_positive(self, "rates")
        check_at_least(self, 1, "held_out")


def stopped(error: BaseException) -> int | str | None:
    @command(Options, hint="try again")
    def main(options: Options) -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        main([])
    return exit_.value.code


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("bad\n  file"), 2, "error: bad file\n"),
        (FloatingPointError("diverged"), 2, "error: diverged\n"),
        (OSError(errno.ENOSPC, "No space", "f.png"), 2, "error: f.png: No space; try again\n"),
        (KeyboardInterrupt(), 130, "interrupted; try again\n"),
    ],
)
def test_errors_are_one_line(error, status, said, capsys):
    assert stopped(error) == status
    assert capsys.readouterr() == ("", said)


def test_mistakes_of_the_program_keep_their_traceback():
    @command(Options)
    def main(options: Options) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        main([])


def test_options_come_from_the_flags():
    seen = []
    command(Options)(seen.append)(["--rates", "2", "3"])
    assert seen == [Options((2.0, 3.0))]


@pytest.mark.parametrize("rates", [(0.0,), (1.0, -1.0), (math.nan,), (math.inf,), ()])
def test_numbers_that_are_not_positive_are_refused(rates):
    with pytest.raises(ValueError, match="--rates must be positive, not"):
        Options(rates)


def test_numbers_that_are_too_small_are_refused(capsys):
    with pytest.raises(SystemExit):
        command(Options)(lambda options: None)(["--held-out", "0"])
    assert "--held-out must be at least 1, not 0" in capsys.readouterr().err


def test_files_that_are_not_there_or_no_text(tmp_path: Path):
    with pytest.raises(ValueError, match=r"cannot read .*none: No such file"):
        read_text(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"not UTF-8 text \(byte 2\)"):
        read_text(tmp_path / "bytes")
    with pytest.raises(ValueError, match=r"cannot write to .*bytes"):
        make_writable(tmp_path / "bytes")
    make_writable(tmp_path / "new" / "folder")
    assert not os.listdir(tmp_path / "new" / "folder")


def test_curves_are_drawn_whole(tmp_path: Path):
    path = tmp_path / "curves.png"
    curves = {"training": [3.0, 2.0], "validation": [3.1, 2.2]}
    plots.draw_curves(path, [1, 2], curves, {"xz": 2.6}, title="t", ylabel="bits")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(tmp_path) == ["curves.png"]
