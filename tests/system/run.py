#!/usr/bin/python3
"""Runs the whole-program tests, a TAP line each.

usage: run.py [--filters] [--cores] RUNNEL LYING_TARGET [CASE...]
--filters: there is no sanitizer, which makes system calls of its own: test their filters too.
--cores: nor would its shadow memory be part of a core file, and there is debug information: test
those too.
"""

import os
import sys
import unittest
from pathlib import Path

import confined
import core_file
import cores
import data
import devices
import doctor
import figures
import hostile
import idleness
import kills
import lifetime
import misuse
import program
import trust


class tap_result(unittest.TestResult):
    def __init__(self) -> None:
        super().__init__()
        self.failed = False

    def _say(self, test: unittest.TestCase, good: bool, why: str = "") -> None:
        self.failed |= not good
        name = test.id().rpartition(".test_")[2]
        print(f"{'ok' if good else 'not ok'} {self.testsRun} - {name}", flush=True)
        print(why, end="", file=sys.stderr)  # which meson shows, as it does not TAP's comments

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._say(test, True)

    def addFailure(self, test: unittest.TestCase, err) -> None:
        self._say(test, False, self._exc_info_to_string(err, test))

    addError = addFailure

    def addSkip(self, test: unittest.TestCase, why: str) -> None:
        print(f"ok {self.testsRun} - {test.id()} # SKIP {why}", flush=True)


def main() -> int:
    modules = [misuse, data, devices, doctor, lifetime, idleness, figures, trust, hostile, cores,
               kills]
    for option, module in (("--filters", confined), ("--cores", core_file)):
        if option in sys.argv:
            modules.append(module)
            sys.argv.remove(option)
    program.binary, program.lying_target = (Path(word).resolve() for word in sys.argv[1:3])
    os.environ["LC_ALL"] = "C.UTF-8"
    loader = unittest.TestLoader()
    suites = [loader.loadTestsFromModule(module) for module in modules]
    wanted = sys.argv[3:]
    tests = [
        test
        for suite in suites
        for group in suite
        for test in group
        if not wanted or any(name in test.id() for name in wanted)
    ]
    print(f"1..{len(tests)}", flush=True)
    result = tap_result()
    unittest.TestSuite(tests).run(result)
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
