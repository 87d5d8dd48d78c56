#!/usr/bin/python3
"""The device lab: guests with Debian's kernel judge our devices. See README.md.

usage: lab.py [LANE] [--only CASE]... [--list] [--runnel PATH] [--cache DIR] [--report FILE]
Exit status 0 when every case passed, 1 when one failed or the lab could not run, 2 for usage.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.dont_write_bytecode = True  # the checkout stays as it is

import cases  # noqa: E402
import debian  # noqa: E402
import judge  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class result:
    case: str
    seconds: float = 0.0
    verdicts: list[judge.verdict] = field(default_factory=list)
    failure: str = ""  # why the case did not come to its end
    logs: str = ""  # folder with consoles and traces, kept when the case failed

    @property
    def passed(self) -> bool:
        return not self.failure and all(verdict.passed for verdict in self.verdicts)


def run(case: cases.lab_case, lab: cases.laboratory) -> result:
    folder = Path(tempfile.mkdtemp(prefix="runnel-lab-"))
    outcome = result(case.name)
    start = time.monotonic()
    try:
        outcome.verdicts = case.run(lab, folder)
    except debian.lab_error as error:
        outcome.failure = str(error)
    except (ValueError, LookupError) as error:  # output that is not what it should be
        outcome.failure = f"{type(error).__name__}: {error}"
    outcome.seconds = round(time.monotonic() - start, 1)
    if outcome.passed or not any(folder.iterdir()):
        shutil.rmtree(folder)
    else:
        outcome.logs = str(folder)
    return outcome


def show(outcome: result) -> None:
    print(f"{'ok' if outcome.passed else 'FAILED':7}{outcome.case:20}{outcome.seconds:6.1f} s")
    for verdict in outcome.verdicts:
        mark = "ok" if verdict.passed else "FAILED"
        print(f"       {mark:7}{verdict.check:11}{verdict.detail}")
    if outcome.failure:
        print(f"       {outcome.failure}")
    if outcome.logs:
        print(f"       console, trace and logs: {outcome.logs}")
    sys.stdout.flush()


def parse_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Boots guests on our devices and judges both.")
    lanes = sorted({case.lane for case in cases.CASES})
    names = [case.name for case in cases.CASES]
    parser.add_argument("lane", nargs="?", choices=lanes, help="only the cases of this lane")
    parser.add_argument("--only", action="append", choices=names, metavar="CASE",
                        help="only this case; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--runnel", type=Path, default=ROOT / "build/apps/runnel",
                        help="the program under test (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=debian.default_cache(),
                        help="where package trees are kept (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the results as JSON")
    return parser.parse_args()


def main() -> int:
    words = parse_words()
    chosen = [case for case in cases.CASES
              if words.lane in (None, case.lane) and case.name in (words.only or [case.name])]
    if words.list:
        for case in chosen:
            print(f"{case.lane}  {case.name:20}{case.goal}")
        return 0
    lab = cases.laboratory(words.runnel.resolve(), words.cache.resolve())
    outcomes = []
    for case in chosen:
        outcomes.append(run(case, lab))
        show(outcomes[-1])
    passed = sum(outcome.passed for outcome in outcomes)
    if words.report:
        rows = [{**asdict(outcome), "passed": outcome.passed} for outcome in outcomes]
        words.report.write_text(json.dumps({"seed": cases.SEED, "cases": rows}, indent=2) + "\n")
    print(f"{passed} passed, {len(outcomes) - passed} failed")
    return 0 if outcomes and passed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
