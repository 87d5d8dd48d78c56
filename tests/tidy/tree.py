"""What the checks share: the project's files as {path: text}, and results printed as TAP.

A check is a function from such a tree to its findings, one line each. So it runs on the project
and, in the same run, on small planted trees that prove it still catches what it is there for.
"""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Tree = dict[str, str]
Find = Callable[[Tree], list[str]]
Case = tuple[str, list[str]]  # what is claimed, and the findings against it

_SKIPPED = (".git", "__pycache__", ".cache")


def paths(root: Path = ROOT) -> list[str]:
    """Every file of the project, relative to its root, without build folders."""
    found = []
    for folder, folders, files in os.walk(root):
        top = Path(folder) == root
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED and not (top and name.startswith("build"))
        )
        found += [os.path.relpath(os.path.join(folder, name), root) for name in sorted(files)]
    return found


def read(root: Path = ROOT) -> Tree:
    """Every text file of the project."""
    tree = {}
    for path in paths(root):
        try:
            tree[path] = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file: no check reads those
    return tree


def is_cpp(path: str) -> bool:
    return path.endswith((".h", ".cc"))


def report(cases: Iterable[Case]) -> int:
    """Prints a TAP line per case, and findings on stderr. Returns the exit code."""
    count = failed = 0
    for claim, findings in cases:
        count += 1
        failed += bool(findings)
        print(f"{'not ok' if findings else 'ok'} {count} - {claim}")
        for finding in findings:
            print(finding, file=sys.stderr)  # which meson shows, as it does not TAP's comments
    print(f"1..{count}", flush=True)
    return 1 if failed else 0


def proofs(find: Find, planted: dict[str, Tree], clean: dict[str, Tree]) -> Iterable[Case]:
    """Cases that show `find` reports each planted violation once, and nothing where all is well."""
    for what, tree in planted.items():
        found = find(tree)
        yield f"catches {what}", [] if len(found) == 1 else [f"expected one finding, got {found}"]
    for what, tree in clean.items():
        yield f"allows {what}", find(tree)


def run(claim: str, find: Find, planted: dict[str, Tree], clean: dict[str, Tree]) -> None:
    """The whole life of a check: prove it on planted trees, run it on the project, exit."""
    project = read()
    cases = [*proofs(find, planted, clean), (f"{claim} ({len(project)} files)", find(project))]
    sys.exit(report(cases))
