#!/usr/bin/python3
"""docs/coverage.md: each noun of the project, the file that does it, and a test that proves it.

A row is `| noun | file | test |`; the test is `Suite.Case` of googletest, or `system:case`,
`lab:case`, `fuzz:target`, `tidy:script`. Here each file and test must exist; report.py checks that
they ran.
"""

import re
from dataclasses import dataclass

import tree

TABLE = "docs/coverage.md"
_CASE = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.MULTILINE)
_LAB_CASE = re.compile(r'\blab_case\("([\w-]+)"')
_PYTHON_CASE = re.compile(r"^\s*def test_(\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class row:
    line: int
    noun: str
    file: str
    test: str


def rows(files: tree.Tree) -> list[row]:
    found = []
    for number, line in enumerate(files.get(TABLE, "").splitlines(), 1):
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        is_rule = set(line) <= set("|-: ")
        if line.startswith("|") and not is_rule and cells[0] != "noun":
            found.append(row(number, cells[0], *(cells[1:] + ["", ""])[:2]))
    return found


def _tests(files: tree.Tree) -> set[str]:
    """Every name a row may use as its test."""
    names = set()
    for path, text in files.items():
        if path.startswith("tests/fuzz/") and "LLVMFuzzerTestOneInput" in text:
            names.add("fuzz:" + path.removeprefix("tests/fuzz/").removesuffix(".cc"))
        elif path.endswith(".cc"):
            names |= {f"{suite}.{case}" for suite, case in _CASE.findall(text)}
        elif path.startswith("tests/system/"):
            names |= {f"system:{case}" for case in _PYTHON_CASE.findall(text)}
        elif path.startswith("tests/lab/"):
            names |= {f"lab:{case}" for case in _LAB_CASE.findall(text)}
        elif path.startswith("tests/tidy/"):
            names.add("tidy:" + path.removeprefix("tests/tidy/").removesuffix(".py"))
    return names


def find(files: tree.Tree) -> list[str]:
    tests = _tests(files)
    findings = [] if TABLE in files else [f"{TABLE}: is missing"]
    for entry in rows(files):
        place = f"{TABLE}:{entry.line}: {entry.noun}"
        if entry.file not in files:
            findings.append(f"{place}: no such file: {entry.file}")
        if entry.test not in tests:
            findings.append(f"{place}: no such test: {entry.test}")
    return findings


if __name__ == "__main__":
    HEAD = "| noun | file | test |\n|---|---|---|\n"
    planted_files = {
        "mempool/a.h": "",
        "mempool/a_test.cc": "TEST(Pool, GivesBack) {\n}\nTEST_F(\n    Queue, Wraps) {\n}\n",
        "tests/fuzz/parser.cc": "int LLVMFuzzerTestOneInput() {\n}\n",
        "tests/fuzz/parts.cc": "",
        "tests/lab/cases.py": 'lab_case("boots", "qemu")\n',
        "tests/system/cases.py": "    def test_copies(self):\n",
    }

    def table(line: str) -> tree.Tree:
        return planted_files | {TABLE: HEAD + line + "\n"}

    tree.run(
        "every row of the coverage table names a file and a test",
        find,
        planted={
            "a missing table": planted_files,
            "a row whose file is gone": table("| pool | mempool/b.h | Pool.GivesBack |"),
            "a row whose test is gone": table("| pool | mempool/a.h | Pool.Takes |"),
            "a row whose fuzzer is gone": table("| wire | mempool/a.h | fuzz:parts |"),
            "a row without a test": table("| pool | mempool/a.h |"),
        },
        clean={
            "a unit test": table("| pool | mempool/a.h | `Pool.GivesBack` |"),
            "a fixture's test": table("| queue | mempool/a.h | Queue.Wraps |"),
            "a system test": table("| copy | mempool/a.h | system:copies |"),
            "a fuzzer": table("| wire | mempool/a.h | fuzz:parser |"),
            "a case of the lab": table("| boot | mempool/a.h | lab:boots |"),
        },
    )
