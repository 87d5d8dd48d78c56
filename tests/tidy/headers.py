#!/usr/bin/python3
"""Every header compiles alone.

A header whose .cc includes it first is proven by the build, so that order is checked and only the
others are compiled here, from files in FOLDER: ccache knows a file again.
usage: headers.py FOLDER COMPILER [FLAG...]
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cpp
import tree


def _source(header: str) -> str:
    return header.removesuffix(".h") + ".cc"


def order(files: tree.Tree) -> list[str]:
    """Sources that do not begin with their own header."""
    findings = []
    for header in files:
        text = files.get(_source(header)) if header.endswith(".h") else None
        if text is not None and next((path for _, _, path in cpp.includes(text)), "") != header:
            findings.append(f"{_source(header)}: includes {header}, but not first")
    return findings


def alone(command: list[str], source: Path, text: str) -> list[str]:
    """What the compiler says about a file with nothing but this text."""
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text, encoding="ascii")
    done = subprocess.run(
        [*command, "-fsyntax-only", f"-I{tree.ROOT}", str(source)],
        capture_output=True, text=True, check=False, timeout=120,
    )
    return done.stderr.splitlines()[:5] if done.returncode else []


def cases(folder: Path, command: list[str]) -> Iterable[tree.Case]:
    needs_include = "inline std::size_t x;\n"
    yield "catches a header that needs an include before it", (
        [] if alone(command, folder / "needs_include.cc", needs_include) else ["it compiled"]
    )
    yield from tree.proofs(
        order,
        planted={"a source that includes its header second": {
            "a.h": "", "a.cc": '#include <span>\n#include "a.h"\n'}},
        clean={"a header without a source": {"a.h": ""}},
    )
    project = tree.read()
    yield "each source includes its own header first", order(project)
    lone = [path for path in project if path.endswith(".h") and _source(path) not in project]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = pool.map(lambda path: alone(command, folder / _source(path),
                                              f'#include "{path}"\n'), lone)
        yield from ((f"{path} compiles alone", found) for path, found in zip(lone, results))


if __name__ == "__main__":
    sys.exit(tree.report(cases(Path(sys.argv[1]), sys.argv[2:])))
