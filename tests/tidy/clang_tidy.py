#!/usr/bin/python3
"""Runs clang-tidy over every source of a build, in parallel; a case per source, as TAP.

The build is one of `-Dunity=on`, where a library or a program is one source: nearly all of the
tool's time goes to the standard library's headers, which it then meets 23 times and not 200. A
source that was clean is not looked at again until something in it, the checks, the flags or the
tool change.
usage: clang_tidy.py BUILD_DIR CACHE_DIR
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tree

TOOL = "clang-tidy-19"
SECONDS_MAX = 1800
# Tests walk into failures on purpose, count in small numbers, set the environment of one thread and
# pass lambdas to coroutines that end before them; and googletest's macros branch so much that the
# analyzer takes a minute a file.
TEST_CHECKS = [
    "--checks=-clang-analyzer-*,-performance-*,"
    "-bugprone-implicit-widening-of-multiplication-result,-bugprone-use-after-move,"
    "-concurrency-mt-unsafe,-cppcoreguidelines-special-member-functions,"
    "-cppcoreguidelines-avoid-capturing-lambda-coroutines"
]
TEST = re.compile(r"_test-unity\d+\.cpp$|(^|/)tests/")


def sources(build: Path) -> list[dict[str, str]]:
    entries = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    return list({entry["file"]: entry for entry in entries}.values())


def _command(entry: dict[str, str], build: Path) -> list[str]:
    checks = TEST_CHECKS if TEST.search(entry["file"]) else []
    return [TOOL, "-p", str(build.resolve()), "--quiet", *checks, entry["file"]]


def _path(entry: dict[str, str]) -> str:
    return os.path.relpath(os.path.join(entry["directory"], entry["file"]), tree.ROOT)


def _key(entry: dict[str, str], version: bytes) -> str:
    """A digest of all that the tool sees: comments and macros are kept, they matter to it."""
    preprocess = [*shlex.split(entry["command"]), "-E", "-C", "-dD", "-o", "-"]
    seen = subprocess.run(
        preprocess, cwd=entry["directory"], capture_output=True, check=False
    ).stdout
    checks = (tree.ROOT / ".clang-tidy").read_bytes() + repr(TEST_CHECKS).encode()
    return hashlib.sha256(version + checks + entry["command"].encode() + seen).hexdigest()


def check(entry: dict[str, str], build: Path, cache: Path, version: bytes) -> tree.Case:
    clean = cache / _key(entry, version)
    if clean.exists():
        clean.touch()
        return _path(entry), []
    done = subprocess.run(
        _command(entry, build), cwd=entry["directory"],
        capture_output=True, text=True, check=False, timeout=SECONDS_MAX,
    )
    if done.returncode == 0:
        clean.touch()
        return _path(entry), []
    return _path(entry), (done.stdout or done.stderr).splitlines()


def cases(build: Path, cache: Path) -> Iterable[tree.Case]:
    cache.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([TOOL, "--version"], capture_output=True, check=True).stdout
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield from pool.map(lambda entry: check(entry, build, cache, version), sources(build))


if __name__ == "__main__":
    sys.exit(tree.report(cases(Path(sys.argv[1]), Path(sys.argv[2]))))
