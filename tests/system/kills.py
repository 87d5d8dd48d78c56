"""Either side is killed in full swing, over and over: the other one is as it was before.

Method: a killed process cleans up nothing. What the target counted for each client tells how much
was under way; what the kernel counts for the target (descriptors, maps, memory) tells what stayed.
"""

import json
import os
import re
import signal
import unittest
from pathlib import Path

import program

ROUNDS = int(os.environ.get("RUNNEL_KILL_ROUNDS", "6"))
SETTLED = 3  # rounds after which nothing more may be taken
IOS_MIN = 1000
MIB = 1 << 20
TIB = 1 << 40


def bytes_of(pid: int, field: str) -> int:
    """A field of /proc/PID/status."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.M)
    assert found is not None
    return int(found[1]) * 1024


def resources(pid: int) -> tuple[int, int, int]:
    """Descriptors, lines of the map, bytes of memory that are the process's own."""
    proc = Path(f"/proc/{pid}")
    maps = (proc / "maps").read_text(encoding="utf-8").count("\n")
    # A sanitizer, known by its shadow, keeps what was freed.
    memory = 0 if bytes_of(pid, "VmSize") > TIB else bytes_of(pid, "RssAnon")
    return len(list((proc / "fd").iterdir())), maps, memory


class kills(program.program_case):
    def test_a_target_outlives_clients_that_are_killed(self) -> None:
        target = self.serve("a.sock", "ram:16M")
        settled = (0, 0, 0)
        for each in range(1, ROUNDS + 1):
            ios = self._kill_a_client(target, each)
            self.assertGreaterEqual(ios, IOS_MIN, f"round {each}")
            if each == SETTLED:
                settled = resources(target.process.pid)
        fds, maps, memory = resources(target.process.pid)
        self.assertEqual((fds, maps), settled[:2])
        self.assertLessEqual(memory - settled[2], MIB)
        self.succeed("identify", self.at("a.sock"))
        self.assertEqual(target.end().status, 0)

    def _kill_a_client(self, target: program.started, count: int) -> int:
        """@return how many I/Os it had done"""
        before = target.cpu_seconds()
        load = self.start("perf", self.at("a.sock"), "--depth", 32, "--rw", "randrw", "--time", 60)
        target.await_work(before + 0.2)  # not perf, which polls alone on a loaded machine
        load.end(signal.SIGKILL)

        def left() -> list[tuple[str, str]]:
            return re.findall(r"client left, served reads=(\d+) writes=(\d+)", target.errors())

        program.await_condition(lambda: len(left()) == count, "the target to see it")
        reads, writes = left()[-1]
        return int(reads) + int(writes)

    def test_a_client_outlives_its_target_by_less_than_a_second(self) -> None:
        cores = sorted(os.sched_getaffinity(0))[:2]
        target = self.serve("a.sock", "ram:16M")
        load = self.start("perf", self.at("a.sock"), "--depth", 32, "--time", 60, "--json",
                          "--cores", ",".join(map(str, cores)))
        load.await_work(0.5)
        target.end(signal.SIGKILL)
        done = load.finish()
        self.assertEqual(done.status, 1)
        self.assertLess(done.seconds, 1.0)
        self.assertEqual(done.err.count("\n"), 1, done.err)
        self.assertIn("its process ended the connection", done.err)
        got = json.loads(done.out)
        # It ended, so it has heard of each I/O in flight: that it failed, or had been answered.
        self.assertGreaterEqual(got["errors"], len(cores))
        self.assertLessEqual(got["errors"], 32 * len(cores))
