#!/usr/bin/python3
"""Counts the cases of a meson test run from its own reports; the last line is the total.

usage: report.py BUILD_DIR [--coverage]   with --coverage, a row of docs/coverage.md whose unit,
system or tidy test did not run counts as a failure.  Exit code 1 unless all passed, and some ran.
"""

import json
import re
import sys
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import tree


@dataclass
class results:
    passed: set[str] = field(default_factory=set)  # `program: Suite.Case`
    failed: list[str] = field(default_factory=list)
    skipped: int = 0

    def line(self) -> str:
        tail = f", {self.skipped} skipped" if self.skipped else ""
        return f"{len(self.passed)} passed, {len(self.failed)} failed{tail}"


def _program(name: str) -> str:
    """`runnel.runnel:unit / pool.Pool` and `runnel:unit / pool` are runs of `pool`."""
    return name.split(" / ")[-1].split(".")[0]


def count(junit: str, log: str) -> results:
    """Cases come from the JUnit file; how each program ended comes from the log, line by line."""
    found = results()
    reported = set()
    failing = set()
    for suite in xml.fromstring(junit).iter("testsuite"):
        program = _program(suite.get("name", ""))
        if " / " not in suite.get("name", ""):
            continue  # programs without cases of their own
        reported.add(program)
        for case in suite.iter("testcase"):
            group = f"{case.get('classname')}." if case.get("status") else ""  # googletest's
            name = f"{program}: {group}{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                found.failed.append(name)
                failing.add(program)
            elif case.find("skipped") is not None or case.get("status") == "notrun":
                found.skipped += 1
            else:
                found.passed.add(name)
    for run in map(json.loads, log.splitlines()):
        program = _program(run["name"])
        if run["result"] not in ("OK", "SKIP") and program not in failing:
            found.failed.append(f"{program}: {run['result']}, exit status {run['returncode']}")
        elif program not in reported:
            found.passed.add(program)
    return found


def normal(case: str) -> str:
    """A case as the coverage table names it: no program, no instance, no parameter, no number."""
    program, _, name = case.rpartition(": ")
    if "." in name and " " not in name:
        suite, case = name.split(".", 1)
        suites = [part for part in suite.split("/") if not part.isdigit()]
        return f"{suites[-1]}.{case.split('/')[0]}"
    return f"{program}:{re.sub(r'^[0-9]+ (- )?', '', name)}"


def missing(files: tree.Tree, passed: set[str]) -> list[str]:
    ran = {normal(case) for case in passed} | {f"tidy:{case.split(':')[0]}" for case in passed}
    return [
        f"{coverage.TABLE}:{entry.line}: {entry.test} did not pass in this run"
        for entry in coverage.rows(files)
        if not entry.test.startswith(("fuzz:", "lab:")) and entry.test not in ran
    ]


def main(build: Path, with_coverage: bool) -> int:
    logs = build / "meson-logs"
    found = count(
        (logs / "testlog.junit.xml").read_text(encoding="utf-8"),
        (logs / "testlog.json").read_text(encoding="utf-8"),
    )
    if with_coverage:
        found.failed += missing(tree.read(), found.passed)
    for case in found.failed:
        print(f"FAILED {case}")
    print(found.line(), flush=True)
    return 0 if found.passed and not found.failed else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "--coverage" in sys.argv[2:]))
