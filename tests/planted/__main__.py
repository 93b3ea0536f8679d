"""Plant each bug in a copy of the core and see that the suite finds it: ``python -m tests.planted [--only WORD]``.

Prints what found each; exit status 1 if one was found by nothing. A planted bug that no longer fits the source is an
error: mend its text.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .bugs import BUGS, Bug

PROJECT = Path(__file__).parents[2]
SUITE = (
    "tests/scenarios",
    "tests/unit/test_placement.py",
    "tests/property/test_placement.py",
    "tests/unit",
    "tests/simulation",
)
"""In this order, the quick ones first; the first failure ends it."""
NO_JUDGE = ("tests/unit/test_planted.py", "tests/unit/test_web.py")
"""They fail by every bug: one compares texts, the other builds from what is not in the copy."""
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
TIME_OUT_S = 600


def planted(bug: Bug, tree: Path) -> None:
    """Change the copy. Raises ValueError when the text is not there exactly once."""
    path = tree / "src/shoal" / bug.file
    source = path.read_text()
    if source.count(bug.old) != 1:
        raise ValueError(
            f"{bug.name}: {bug.file} has its line {source.count(bug.old)} times; mend tests/planted/bugs.py"
        )
    path.write_text(source.replace(bug.old, bug.new))


def found_by(tree: Path) -> str:
    """The first test that fails in the copy; "" = none."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    for part in SUITE:
        command = [*pytest, *(f"--ignore={one}" for one in NO_JUDGE), part]
        try:
            run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIME_OUT_S)
        except subprocess.TimeoutExpired:
            return f"{part} (did not end within {TIME_OUT_S} s)"
        if run.returncode == 1:
            failed = FAILED.search(run.stdout)
            return failed.group(1) if failed else part
        if run.returncode != 0:
            raise RuntimeError(f"pytest could not run {part}:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name has this in it")
    wanted = [bug for bug in BUGS if parser.parse_args().only in bug.name]
    survived = 0
    for bug in wanted:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder)
            for part in ("src", "tests", "docs", "pyproject.toml"):
                source = PROJECT / part
                copy = shutil.copytree if source.is_dir() else shutil.copy
                copy(source, tree / part)
            planted(bug, tree)
            began = time.monotonic()
            by = found_by(tree)
        survived += not by
        print(
            f"{'found' if by else 'NOT FOUND':9}  {bug.name}: {by or 'by no test'}  ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
    print(f"{len(wanted) - survived} of {len(wanted)} found")
    return bool(survived)


if __name__ == "__main__":
    raise SystemExit(main())
