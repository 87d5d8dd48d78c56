#!/usr/bin/python3
"""The counting of a run's cases, on reports as meson and googletest write them.

Goal: no failure may be lost, whether a case says so or only the way its program ended.
"""

import json
import sys
from collections.abc import Iterable

import coverage
import report
import tree


def _suite(program: str, cases: str) -> str:
    return f'<testsuite name="runnel.runnel:unit / {program}">{cases}</testsuite>'


def _case(name: str, inside: str = "", status: str = "run") -> str:
    return f'<testcase classname="All/Pool" name="{name}" status="{status}">{inside}</testcase>'


def _run(program: str, result: str, code: int) -> str:
    return json.dumps({"name": f"runnel:unit / {program}", "result": result, "returncode": code})


def _count(junit: str, *runs: str) -> str:
    return report.count(f"<testsuites>{junit}</testsuites>", "\n".join(runs)).line()


def _expect(claim: str, got: object, wanted: object) -> tree.Case:
    return claim, [] if got == wanted else [f"got {got}, wanted {wanted}"]


def cases() -> Iterable[tree.Case]:
    good = _suite("pool", _case("A") + _case("B/1"))
    skips = _suite("pool", _case("A", "<skipped/>") + _case("B", status="notrun"))
    fails = _suite("pool", _case("A", "<failure/>") + _case("B"))
    plain = '<testsuite name="runnel"><testcase name="runnel:unit / slow"/></testsuite>'
    passed = _run("pool", "OK", 0)
    yield _expect("counts cases, not programs", _count(good, passed), "2 passed, 0 failed")
    yield _expect("counts a failed case once", _count(fails, _run("pool", "FAIL", 1)),
                  "1 passed, 1 failed")
    yield _expect("counts skipped cases apart", _count(skips, passed),
                  "0 passed, 0 failed, 2 skipped")
    yield _expect("fails a program that ends badly after its cases passed",
                  _count(good, _run("pool", "FAIL", 23)), "2 passed, 1 failed")
    yield _expect("fails a program that left no report", _count("", _run("pool", "FAIL", -6)),
                  "0 passed, 1 failed")
    yield _expect("fails a program that timed out", _count(plain, _run("slow", "TIMEOUT", -15)),
                  "0 passed, 1 failed")
    for case in ("pool: All/Pool.A/0", "pool: Pool/1.A", "pool: Pool.A"):
        yield _expect(f"finds the written name of {case}", report.normal(case), "Pool.A")
    yield _expect("finds the name of a TAP case", report.normal("system: 3 - copies"),
                  "system:copies")
    files = {coverage.TABLE: "| pool | a | Pool.A |\n| lab | a | lab:boots |\n| x | a | tidy:x |\n"}
    yield _expect("reports a table row that did not run", len(report.missing(files, {"x: 1 y"})), 1)
    yield _expect("accepts a table whose rows ran",
                  report.missing(files, {"pool: All/Pool.A/3", "x: 1 y"}), [])


if __name__ == "__main__":
    sys.exit(tree.report(cases()))
