#!/usr/bin/python3
"""Runs the fuzzers: each on its corpus, then on new inputs for a time. See README.md.

usage: fuzz.py --build DIR [--time S] [--coverage | --planted] [TARGET...]
The last line is `N passed, N failed`. Exit status 0 when all passed.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True  # the checkout stays as it is

import measure  # noqa: E402
import planted  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
LENGTH_MAX = {  # bytes of an input
    "kernel_replies": 512,
    "nvme_controller": 1024,
    "nvme_driver": 1024,
    "pci": 512,
    "vfio_user_client": 1024,
    "vfio_user_protocol": 4096,
    "vfio_user_server": 1024,
}
INPUT_SECONDS_MAX = 10  # a single input that takes longer is a finding


@dataclass
class result:
    target: str
    runs: int
    runs_per_second: float  # of processor time: the machine may be busy
    log: str
    reproducer: str = ""

    @property
    def passed(self) -> bool:
        return self.runs > 0 and not self.reproducer


def environment() -> dict[str, str]:
    """Fast; who replays a finding by hand gets the sanitizer's usual, longer report."""
    asan = "quarantine_size_mb=1:malloc_context_size=1:max_malloc_fill_size=64"
    return {**os.environ, "ASAN_OPTIONS": asan, "UBSAN_OPTIONS": "print_stacktrace=1",
            "ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-19"}


def run(build: Path, target: str, seconds: int) -> result:
    """The corpus, then new inputs until the time is over or something is found."""
    program = build / "tests/fuzz" / target
    findings = build / "findings"
    findings.mkdir(exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [str(program), f"-max_total_time={seconds}", f"-max_len={LENGTH_MAX[target]}",
             f"-timeout={INPUT_SECONDS_MAX}", "-print_final_stats=1",
             f"-artifact_prefix={findings}/{target}-", scratch, str(CORPUS / target)],
            env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    counted = re.search(r"stat::number_of_executed_units: (\d+)", done.stdout)
    runs = int(counted[1]) if counted else 0
    written = re.search(r"Test unit written to (\S+)", done.stdout)
    reproducer = written[1] if written else ""
    if done.returncode != 0 and not reproducer:
        reproducer = f"(none written, exit status {done.returncode})"
    return result(target, runs, runs / max(cpu, 0.01), done.stdout, reproducer)


def show(found: result, build: Path) -> None:
    mark = "ok" if found.passed else "FAILED"
    rate = f"{found.runs_per_second:9.0f} /s of CPU time"
    print(f"{mark:7}{found.target:20}{found.runs:9} runs {rate}")
    if not found.passed:
        print(*found.log.splitlines()[-60:], sep="\n")
        print(f"       reproducer: {found.reproducer}")
        print(f"       replay:     {build}/tests/fuzz/{found.target} {found.reproducer}")
    sys.stdout.flush()


def fuzz(build: Path, targets: list[str], seconds: int) -> list[bool]:
    passed = []
    for target in targets:
        found = run(build, target, seconds)
        show(found, build)
        passed.append(found.passed)
    return passed


def parse_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs the fuzzers on their corpora and beyond.")
    parser.add_argument("targets", nargs="*", metavar="TARGET",
                        help=f"of {', '.join(LENGTH_MAX)}; all by default")
    parser.add_argument("--build", type=Path, required=True, metavar="DIR")
    parser.add_argument("--time", type=int, default=10, metavar="S", help="for each target")
    parser.add_argument("--coverage", action="store_true",
                        help="lines that the corpora reach, by file; DIR is built for that")
    parser.add_argument("--planted", action="store_true", help="bugs of planted/ must be found")
    words = parser.parse_args()
    unknown = set(words.targets) - set(LENGTH_MAX)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return words


def main() -> int:
    words = parse_words()
    targets = words.targets or list(LENGTH_MAX)
    if words.coverage:
        passed = measure.coverage(words.build, targets, CORPUS)
    elif words.planted:
        passed = planted.hunt(ROOT, words.build, run)
    else:
        passed = fuzz(words.build, targets, words.time) + planted.check(ROOT)
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if passed and all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
