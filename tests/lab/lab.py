#!/usr/bin/python3
"""The device lab: guests in QEMU judge our devices, and our driver of theirs. See README.md.

usage: lab.py [LANE] [--only CASE]... [--kernel KERNEL]... [--all] [--list | --shell]
              [--runnel PATH] [--cache DIR] [--report FILE]
Exit status 0 when every case passed, 1 when one failed or the lab could not run, 2 for usage.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path

sys.dont_write_bytecode = True  # the checkout stays as it is

import cases  # noqa: E402
import debian  # noqa: E402
import kernels  # noqa: E402
import laboratory  # noqa: E402
import results  # noqa: E402
import vfio_cases  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def run(case: laboratory.lab_case, lab: laboratory.laboratory) -> results.result:
    folder = Path(tempfile.mkdtemp(prefix="runnel-lab-"))
    outcome = results.result(case)
    start = time.monotonic()
    try:
        outcome.verdicts = case.run(lab, folder)
    except debian.lab_error as error:
        outcome.failure = str(error)
    # Output that is not what it should be, a pipe that ends, a tool that fails: other rows go on.
    except (ValueError, LookupError, OSError, subprocess.SubprocessError) as error:
        outcome.failure = f"{type(error).__name__}: {error}"
    outcome.seconds = round(time.monotonic() - start, 1)
    if outcome.passed or not any(folder.iterdir()):
        shutil.rmtree(folder)
    else:
        outcome.logs = str(folder)
    return outcome


def talk(lab: laboratory.laboratory, kernel: str) -> int:
    """A prompt in a guest with that kernel, through the best that it has."""
    where = [where for where in vfio_cases.PLACES if where.kernel.name == kernel][-1]
    with tempfile.TemporaryDirectory(prefix="runnel-lab-") as folder:
        try:
            vfio_cases.shell(lab, Path(folder), where)
        except debian.lab_error as error:
            print(f"lab: {error}", file=sys.stderr)
            return 1
    return 0


def choose(words: argparse.Namespace) -> list[laboratory.lab_case]:
    """The rows that the words ask for: a row or a kernel that is named is run without --all."""
    only = words.only or []

    def is_chosen(case: laboratory.lab_case) -> bool:
        is_named = any(fnmatchcase(case.title, pattern) for pattern in only)
        if words.lane not in (None, case.lane) or (only and not is_named and case.name not in only):
            return False
        if words.kernel:
            return case.where is not None and case.where.kernel.name in words.kernel
        return words.all or is_named or case.always

    return [case for case in cases.CASES if is_chosen(case)]


def word_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Boots guests on our devices, or our program in "
                                                 "guests, and judges both.")
    lanes = sorted({case.lane for case in cases.CASES})
    names = [kernel.name for kernel in kernels.KERNELS]
    parser.add_argument("lane", nargs="?", choices=lanes, help="only the cases of this lane")
    parser.add_argument("--only", action="append", metavar="CASE",
                        help="only this case, or the rows that a pattern such as 'bed/own/cdev/*' "
                             "matches; may be repeated")
    parser.add_argument("--kernel", action="append", choices=names, metavar="KERNEL",
                        help=f"only rows of this kernel, of {', '.join(names)}; may be repeated")
    parser.add_argument("--all", action="store_true", help="all rows, not the usual ones alone")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument("--shell", action="store_true",
                        help="a prompt in a guest of the first KERNEL, its disk at vfio-pci")
    parser.add_argument("--runnel", type=Path, default=ROOT / "build/apps/runnel",
                        help="the program under test (default: %(default)s)")
    parser.add_argument("--conformance", type=Path,
                        default=ROOT / "build-debugoptimized/tests/sim/conformance_test",
                        help="the suite that kernels answer (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=debian.default_cache(),
                        help="where package trees and kernels are kept (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the results as JSON")
    return parser


def main() -> int:
    parser = word_parser()
    words = parser.parse_args()
    lab = laboratory.laboratory(words.runnel.resolve(), words.conformance.resolve(),
                                words.cache.resolve())
    if words.shell:
        return talk(lab, (words.kernel or ["6.12"])[0])
    chosen = choose(words)
    if not chosen:
        parser.error("no such case; --list prints them")
    if words.list:
        for case in chosen:
            print(f"{case.lane:5} {case.title:36}{case.goal}")
        return 0
    outcomes = []
    for case in chosen:
        outcomes.append(run(case, lab))
        results.show(outcomes[-1])
    passed = sum(outcome.passed for outcome in outcomes)
    if words.report:
        rows = [results.as_json(outcome) for outcome in outcomes]
        document = {"seed": laboratory.SEED, "cases": rows}
        words.report.write_text(json.dumps(document, indent=2) + "\n")
    print(results.table(outcomes) + f"{passed} passed, {len(outcomes) - passed} failed")
    return 0 if passed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
