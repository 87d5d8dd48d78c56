"""`runnel doctor` on whatever machine this is: what is made wrong is told, and remedies are some.

What a machine lacks for good, guests of the lab lack: see tests/lab.
"""

import json
import os
import shlex
import subprocess
import unittest
from pathlib import Path

import program

WITHOUT_IO_URING = Path(__file__).with_name("without_io_uring.py")
# Asks, does what is printed, and asks again. `$$`, in what is printed, is this shell.
MEND = """
ask() { "$@" doctor | tr -s ' ' | sed -n "s/^ \\([a-z]* $check \\)/\\1/p"; }
eval "$wrong"
said=$(ask "$@")
echo "$said"
eval "$(echo "$said" | sed -n 's/.*; remedy: [^`]*`\\([^`]*\\)`.*/\\1/p')" >/dev/null
ask "$@"
"""
HUMBLE = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()  # it may lock no more


def may_raise_limits() -> bool:
    return subprocess.run(["prlimit", "--memlock=unlimited", "true"], capture_output=True,
                          check=False).returncode == 0


class doctor(program.program_case):
    def mend(self, check: str, wrong: str, status: str, cause: str, remedy: str) -> None:
        """@param wrong  what a shell does before it asks"""
        done = subprocess.run(
            ["sh", "-c", f"check={check}; wrong={shlex.quote(wrong)}; {MEND}", "sh", *HUMBLE,
             str(program.binary)],
            capture_output=True, text=True, check=False, timeout=program.RUN_SECONDS_MAX)
        before, after = done.stdout.splitlines()
        self.assertTrue(before.startswith(f"{status} {check} "), before)
        self.assertIn(cause, before)
        self.assertIn(f"`{remedy}`", before)
        self.assertTrue(after.startswith(f"ok {check} "), after)

    def test_every_precondition_is_told(self) -> None:
        done = program.run("doctor", "--json")
        told = json.loads(done.out)
        failed = [each for each in told["checks"] if each["status"] == "failed"]
        self.assertEqual(done.status, 1 if failed else 0)
        self.assertEqual(done.err, "")
        for each in told["checks"]:
            self.assertTrue(each["cause"])
            self.assertEqual(bool(each["remedy"]), each["status"] != "ok", each)
        works = [each["name"] for each in told["interfaces"] if each["works"]]
        self.assertEqual(works[-4:], ["vfio-user", "file", "ram", "null"])
        self.assertEqual(told["kernel"], os.uname().release)
        self.assertEqual(len(told["structures"]), 5)
        text = program.run("doctor")
        self.assertEqual(text.status, done.status)
        for each in told["checks"]:
            self.assertIn(each["id"], text.out.decode())

    @unittest.skipUnless(may_raise_limits(), "who runs this may not raise limits")
    def test_a_low_limit_of_locked_memory_is_raised_by_what_is_printed(self) -> None:
        raise_it = "ulimit -H -l unlimited; "
        self.mend("memlock", raise_it + "ulimit -S -l 64", "failed", "64 KiB may be locked",
                  "ulimit -S -l 65536")
        self.mend("memlock", raise_it + "ulimit -l 64", "failed", "64 KiB may be locked",
                  "prlimit --pid $$ --memlock=unlimited")

    @unittest.skipIf(len(os.sched_getaffinity(0)) < os.sysconf("SC_NPROCESSORS_ONLN") or
                     os.sysconf("SC_NPROCESSORS_ONLN") < 2, "this machine gives us one core")
    def test_fewer_cores_than_there_are_become_all_by_what_is_printed(self) -> None:
        online = Path("/sys/devices/system/cpu/online").read_text(encoding="ascii").strip()
        self.mend("cpuset", "taskset -p -c 0 $$ >/dev/null", "warning", f"CPUs 0 of {online}",
                  f"taskset -p -c {online} $$")

    def test_a_filter_that_refuses_io_uring_is_named(self) -> None:
        told = json.loads(program.run("doctor", "--json",
                                      under=("/usr/bin/python3", str(WITHOUT_IO_URING))).out)
        found = next(each for each in told["checks"] if each["id"] == "io_uring")
        self.assertEqual(found["status"], "warning", found)
        self.assertRegex(found["cause"], "a seccomp filter refuses io_uring.*file: works by pread")
        self.assertIn("seccomp=unconfined", found["remedy"])
        self.assertIn({"name": "file", "works": True,
                       "why": "by pread and pwrite, as io_uring is refused"}, told["interfaces"])

    def test_a_folder_that_is_no_kernel_package_is_refused(self) -> None:
        done = program.run("doctor", "--btf", self.folder)
        self.assertEqual((done.status, done.out), (1, b""))
        self.assertRegex(done.err, r"^runnel: .*/runnel-.*unpack a linux-image package[^\n]*\n$")
