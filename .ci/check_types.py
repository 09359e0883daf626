"""Run pyright on each folder; fail if it finds an error, or no file to look at."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

FOLDERS = ("jaxrnn", "tests", "examples", "benchmarks")


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


with ThreadPoolExecutor(max_workers=2) as pool:  # as many as the smallest machine has cores
    if not all([*pool.map(check, FOLDERS)]):
        sys.exit(1)
