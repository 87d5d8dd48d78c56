"""A core file tells what the tasks waited for, by gdb and our helper."""

import signal
import subprocess
from pathlib import Path

import program

HELPER = Path(__file__).resolve().parents[2] / "runtime/gdb_tasks.py"
EXPECTED = r"core \d+: \d+ frames\n +32 x perf worker: waits for a read\n +in .*worker\("


class core_file(program.program_case):
    def test_a_core_file_tells_what_tasks_waited_for(self) -> None:
        target = self.serve("a.sock", "ram:16M")
        load = self.load_on(target)
        self.await_tasks(load, "perf worker")
        target.process.send_signal(signal.SIGSTOP)  # now all wait for it
        subprocess.run(["gcore", "-o", self.folder / "core", str(load.process.pid)],
                       capture_output=True, check=True, timeout=program.RUN_SECONDS_MAX)
        load.end(signal.SIGKILL)
        core = next(self.folder.glob("core.*"))
        told = subprocess.run(
            ["gdb", "-nx", "-batch", "-ex", f"source {HELPER}", "-ex", "runnel-tasks",
             program.binary, core],
            capture_output=True, text=True, check=False, timeout=program.RUN_SECONDS_MAX)
        self.assertRegex(told.stdout, EXPECTED, told.stderr)
