"""Bugs that the fuzzers must find, each from the committed corpus within a minute.

A bug is a patch in planted/, whose first line is `target: NAME`. It is built in a copy of the
sources that `./dev fuzz --planted` makes, so the checkout never holds it.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60


def _patch(copy: Path, patch: Path, *options: str) -> None:
    subprocess.run(["patch", "-p1", "--silent", *options, "-i", str(patch)], cwd=copy, check=True)


def check(root: Path) -> list[bool]:
    """A case for each bug: it can still be put into the sources."""
    passed = []
    for patch in sorted((root / "tests/fuzz/planted").glob("*.patch")):
        tried = subprocess.run(["patch", "-p1", "--dry-run", "--fuzz=0", "-i", str(patch)],
                               cwd=root, capture_output=True, text=True, check=False)
        passed.append(tried.returncode == 0)
        if not passed[-1]:
            print(f"FAILED planted/{patch.name} fits the sources no more:", tried.stdout, sep="\n")
    return passed


def hunt(root: Path, build: Path, run: Callable[[Path, str, int], Any]) -> list[bool]:
    """A case for each bug. `build` is a build folder in the copy."""
    passed = []
    copy = build.parent
    for patch in sorted((root / "tests/fuzz/planted").glob("*.patch")):
        target = patch.read_text(encoding="utf-8").splitlines()[0].removeprefix("target: ")
        _patch(copy, patch)
        try:
            subprocess.run(["ninja", "-C", str(build), f"tests/fuzz/{target}"], check=True,
                           stdout=subprocess.DEVNULL)
        finally:
            _patch(copy, patch, "--reverse")
        found = run(build, target, SECONDS)
        why = [line for line in found.log.splitlines()
               if "CHECK failed" in line or "SUMMARY" in line or "runtime error" in line]
        caught = bool(found.reproducer)
        print(f"{'ok' if caught else 'FAILED':7}{patch.stem:24}{target:20}{found.runs:9} runs  "
              f"{why[0].strip() if why else 'nothing was found'}", flush=True)
        passed.append(caught)
    return passed
