"""Run pyright on each folder; fail if it finds an error, or no file to look at."""

import json
import subprocess
import sys

FOLDERS = ("jaxrnn", "tests", "examples", "benchmarks")

for folder in FOLDERS:
    result = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(result.stdout)
    for found in report["generalDiagnostics"]:
        start = found["range"]["start"]
        print(
            f"{found['file']}:{start['line'] + 1}:{start['character'] + 1}: {found['severity']}: "
            f"{found['message']}"
        )
    summary = report["summary"]
    print(f"pyright {folder}: {summary['filesAnalyzed']} files, {summary['errorCount']} errors")
    if summary["errorCount"] or not summary["filesAnalyzed"]:
        sys.exit(1)
