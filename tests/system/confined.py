"""A started program has no privileges left, and makes no system call that it has no need for."""

import ctypes
import errno
import signal
import struct
import subprocess
import unittest
from pathlib import Path

import program

SECCOMP_OFF, SECCOMP_FILTER = "0", "2"  # as /proc tells it
SYS_SECCOMP = 317  # on x86-64
SOCKET = 41


def threads_of(process: program.started) -> dict[str, dict[str, str]]:
    """What the kernel says of each thread, by the names of threads."""
    said = {}
    for folder in Path(f"/proc/{process.process.pid}/task").iterdir():
        lines = (folder / "status").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        said[f"{fields['Name']}.{folder.name}"] = fields
    return said


def refuse_seccomp() -> None:
    """For a child before it runs: under this filter nobody gets another, as in containers."""
    load, equal, answer = 0x20, 0x15, 0x06
    refusal = 0x00050000 | errno.EPERM
    lines = b"".join(struct.pack("HBBI", *line) for line in (
        (load, 0, 0, 0), (equal, 0, 1, SYS_SECCOMP), (answer, 0, 0, refusal),
        (answer, 0, 0, 0x7FFF0000)))
    buffer = ctypes.create_string_buffer(lines)
    filter_program = struct.pack("HxxxxxxQ", len(lines) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    libc.prctl(38, 1, 0, 0, 0)  # NO_NEW_PRIVS
    libc.prctl(22, 2, filter_program, 0, 0)  # SECCOMP, by a filter


class confined(program.program_case):
    def setUp(self) -> None:
        super().setUp()
        done = program.run("perf", "null:1M", "--time", "0.01", "--warmup", "0", "--seccomp", "on")
        if done.status != 0 and "refuses seccomp" in done.err:
            raise unittest.SkipTest(done.err)

    def test_every_thread_of_a_started_program_is_confined(self) -> None:
        target = self.serve("a.sock", "ram:1M", f"file:{self.random_file('disk', 1 << 20)}")
        load = self.load_on(target)
        for process, reactor in ((target, "target/"), (load, "perf/")):
            program.await_condition(lambda: self._all_are_confined(process), "filters")
            self.assertTrue(any(name.startswith(reactor) for name in threads_of(process)))
        self.assertEqual(load.end(signal.SIGKILL).err, "")
        self.assertEqual(target.end().status, 0)

    def _all_are_confined(self, process: program.started) -> bool:
        return all(fields["Seccomp"] == SECCOMP_FILTER and fields["NoNewPrivs"] == "1"
                   and int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
                   for fields in threads_of(process).values())

    def test_filters_can_be_left_out_and_privileges_are_dropped_all_the_same(self) -> None:
        target = self.serve("a.sock", "null:1M", options=("--seccomp", "off"))
        for fields in threads_of(target).values():
            self.assertEqual(fields["Seccomp"], SECCOMP_OFF)
            self.assertEqual(int(fields["CapEff"], 16), 0)

    def test_a_call_off_the_list_ends_the_program_which_tells_who_made_it(self) -> None:
        """By a debugger, which has a thread of a target make one."""
        target = self.serve("a.sock", "null:1M")
        reactor = next(name.rpartition(".")[2] for name in threads_of(target)
                       if name.startswith("target/"))
        said = subprocess.run(
            ["gdb", "--batch", "-nx", "-p", reactor, "-ex", "handle SIGSYS nostop noprint pass",
             "-ex", "call (int)socket(1, 1, 0)"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=program.RUN_SECONDS_MAX).stdout
        if "ptrace: " in said:
            self.skipTest("nobody may debug others here")
        done = target.finish(program.END_SECONDS_MAX)
        self.assertEqual(done.status, -signal.SIGSYS)
        self.assertRegex(done.err, rf"runnel: thread target/\d+: system call {SOCKET} "
                                   r"\(socket\) is not on its list")

    def test_where_filters_are_refused_the_program_works_and_says_so(self) -> None:
        for said, status in (([], 0), (["--seccomp", "on"], 1), (["--seccomp", "off"], 0)):
            done = subprocess.run(
                [program.binary, "perf", "null:1M", "--time", "0.01", "--warmup", "0", *said],
                capture_output=True, text=True, check=False, preexec_fn=refuse_seccomp,
                timeout=program.RUN_SECONDS_MAX)
            self.assertEqual(done.returncode, status, done.stderr)
            lines = [line for line in done.stderr.splitlines() if "refuses seccomp" in line]
            self.assertEqual(len(lines), said != ["--seccomp", "off"], done.stderr)

    def test_an_unknown_mode_is_wrong_usage(self) -> None:
        self.assertEqual(program.run("perf", "null:1M", "--seccomp", "maybe").status, 2)
