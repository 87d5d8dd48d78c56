"""Two processes that have nothing to do leave the machine alone, and wake in time."""

import json
import time
from pathlib import Path

import program

SHARE_MAX = 0.1  # ten times what a quiet machine needs
WINDOW_SECONDS = 1.0
# Ten times what a quiet machine does, and the best of a few runs: others share ours.
FIRST_IO_NS_MAX = 2_000_000
RUNS = 3


def cpu_seconds(pid: int) -> float:
    """Of all threads, exact to the nanosecond where `stat` counts ticks of 10 ms."""
    spent = (path.read_text(encoding="ascii").split()[0]
             for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, spent)) / 1e9


class idleness(program.program_case):
    def test_after_a_burst_both_sides_sleep(self) -> None:
        target = self.serve("a.sock", "ram:64M")
        # The burst is the filling; from then on there is one I/O a second, on queues that live.
        client = self.start("perf", self.at("a.sock"), "--poll", "adaptive", "--verify",
                            "--rate", "1", "--time", "20")
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

    def test_the_first_io_after_a_silence_is_quick(self) -> None:
        self.serve("a.sock", "ram:16M")
        tried = []
        while not tried or (len(tried) < RUNS and tried[-1] > FIRST_IO_NS_MAX):
            done = self.succeed("perf", self.at("a.sock"), "--poll", "adaptive", "--rate", "10",
                                "--time", "3", "--warmup", "0.2", "--json")
            got = json.loads(done.out)
            self.assertEqual(got["errors"], 0)
            tried.append(got["latency_ns"]["p99"])
        self.assertLessEqual(tried[-1], FIRST_IO_NS_MAX, tried)

    def test_what_keeps_a_core_awake_is_said(self) -> None:
        done = self.succeed("perf", "null:1M", "--poll", "adaptive", "--raw", "--rate", "2",
                            "--time", "2", "--warmup", "0")
        self.assertRegex(done.err, "note: core [0-9]+ stayed awake: .*raw")
