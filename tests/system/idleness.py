"""Two processes that have nothing to do leave the machine alone, and wake in time."""

import json
import os
import time
import unittest
from pathlib import Path

import program

SHARE_MAX = 0.1  # ten times what a quiet machine needs
WINDOW_SECONDS = 1.0
# On a machine that others share even a thread that was woken waits some milliseconds for its turn.
# Who was not woken looks by itself after 50 ms.
FIRST_IO_NS_MAX = 10_000_000
RUNS = 3


def cpu_seconds(pid: int) -> float:
    """Of all threads, exact to the nanosecond where `stat` counts ticks of 10 ms."""
    spent = (path.read_text(encoding="ascii").split()[0]
             for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, spent)) / 1e9


class idleness(program.program_case):
    def test_after_a_burst_both_sides_sleep(self) -> None:
        self.check_that_both_sides_sleep(1)

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "this machine gives us one core")
    def test_after_a_burst_all_cores_of_both_sides_sleep(self) -> None:
        self.check_that_both_sides_sleep(2)

    def check_that_both_sides_sleep(self, core_count: int) -> None:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:core_count]))
        target = self.serve("a.sock", "ram:1M", options=("--cores", cores))
        # The burst is the filling; from then on there is one I/O a second, on queues that live.
        client = self.start("perf", self.at("a.sock"), "--poll", "adaptive", "--verify",
                            "--cores", cores, "--rate", "1", "--time", "20")
        pids = (target.process.pid, client.process.pid)
        end = time.monotonic() + program.READY_SECONDS_MAX
        shares = [1.0]
        while max(shares) > SHARE_MAX:
            self.assertLess(time.monotonic(), end, f"shares of a core: {shares}")
            before = [cpu_seconds(pid) for pid in pids]
            start = time.monotonic()
            program.await_condition(lambda: time.monotonic() - start > WINDOW_SECONDS, "time")
            passed = time.monotonic() - start
            shares = [(cpu_seconds(pid) - at) / passed for pid, at in zip(pids, before)]
        self.assertIsNone(client.process.poll(), client.errors())

    def test_the_first_io_after_a_silence_wakes_the_target(self) -> None:
        self.serve("a.sock", "ram:16M")
        tried = []
        while not tried or (len(tried) < RUNS and tried[-1] > FIRST_IO_NS_MAX):
            done = self.succeed("perf", self.at("a.sock"), "--poll", "adaptive", "--rate", "9",
                                "--time", "3", "--warmup", "0.2", "--json")
            got = json.loads(done.out)
            self.assertEqual(got["errors"], 0)
            tried.append(got["latency_ns"]["p50"])
        self.assertLessEqual(tried[-1], FIRST_IO_NS_MAX, tried)

    def test_what_keeps_a_core_awake_is_said(self) -> None:
        done = self.succeed("perf", "null:1M", "--poll", "adaptive", "--raw", "--rate", "2",
                            "--time", "2", "--warmup", "0")
        self.assertRegex(done.err, "note: core [0-9]+ stayed awake: .*raw")
