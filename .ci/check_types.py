"""Run pyright on each folder; fail if it finds an error, or no file to look at, or if some of what
users see has no type.
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDERS = ("jaxrnn", "tests", "examples", "benchmarks")
TYPED = 0.99
"""The share of the names that users see whose types are known."""


def check(folder: str) -> bool:
    """Print what it finds in a folder, and say whether that is nothing."""
    command = [sys.executable, "-m", "pyright", "--outputjson", folder]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    for found in report["generalDiagnostics"]:
        start = found["range"]["start"]
        print(
            f"{found['file']}:{start['line'] + 1}:{start['character'] + 1}: {found['severity']}: "
            f"{found['message']}"
        )
    summary = report["summary"]
    print(f"pyright {folder}: {summary['filesAnalyzed']} files, {summary['errorCount']} errors")
    return summary["filesAnalyzed"] > 0 and not summary["errorCount"]


def is_typed() -> bool:
    """Print how many of the names that users see have types, and say whether that is enough."""
    command = [sys.executable, "-m", "pyright", "--verifytypes", "jaxrnn", "--ignoreexternal"]
    environment = Path(sys.prefix)
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as elsewhere:  # here, it would look at the sources
        result = subprocess.run(
            [*command, "--outputjson"],
            capture_output=True,
            text=True,
            check=False,
            cwd=elsewhere,
            env={**os.environ, "PATH": path, "VIRTUAL_ENV": str(environment)},
        )
    score = json.loads(result.stdout)["typeCompleteness"]["completenessScore"]
    print(f"pyright --verifytypes: {score:.1%} of the names have types, expected {TYPED:.0%}")
    return score >= TYPED


with ThreadPoolExecutor(max_workers=2) as pool:  # as many as the smallest machine has cores
    found = [pool.submit(check, folder) for folder in FOLDERS] + [pool.submit(is_typed)]
    failed = [future for future in found if not future.result()]  # all of them print first
    if failed:
        sys.exit(1)
