"""The `runnel` program as its user meets it: started, read and ended by deadlines."""

import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RUN_SECONDS_MAX = 60.0
READY_SECONDS_MAX = 10.0
END_SECONDS_MAX = 10.0

binary = Path("runnel")  # set by run.py, and so is:
lying_target = Path("lying_target")


@dataclass(frozen=True)
class finished:
    status: int
    out: bytes
    err: str
    seconds: float


def run(*words: object, feed: bytes | None = None, under: tuple[str, ...] = ()) -> finished:
    """Runs one command to its end. @param under a command line to run it with, as `prlimit ...`"""
    start = time.monotonic()
    done = subprocess.run(
        [*under, str(binary), *map(str, words)],
        input=feed, stdin=subprocess.DEVNULL if feed is None else None,
        capture_output=True, check=False, timeout=RUN_SECONDS_MAX,
    )
    seconds = time.monotonic() - start
    return finished(done.returncode, done.stdout, done.stderr.decode(errors="replace"), seconds)


def await_condition(holds: Callable[[], bool], what: str) -> None:
    """Asks again and again, with a pause in between, until it holds or the time is over."""
    end = time.monotonic() + READY_SECONDS_MAX
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"waited {READY_SECONDS_MAX} s for {what}")
        time.sleep(0.01)


def huge_pages_free() -> int:
    """Pages of 2 MiB that nobody has taken."""
    path = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    return int(path.read_text(encoding="ascii")) if path.exists() else 0


def memfds_mapped(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").count("/memfd:")


class started:
    """A command that runs on: what it prints is read as it comes."""

    def __init__(self, command: Path, *words: object) -> None:
        self._err = tempfile.TemporaryFile()
        self._out = b""
        self.process = subprocess.Popen(
            [str(command), *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._err,
        )

    def line(self, seconds_max: float = READY_SECONDS_MAX) -> str:
        """The first line of standard output, waited for until it is whole."""
        assert self.process.stdout is not None
        end = time.monotonic() + seconds_max
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._out:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"no line after {seconds_max} s: {self.errors()}")
                piece = os.read(self.process.stdout.fileno(), 65536)
                if not piece:
                    raise AssertionError(f"ended without a line: {self.errors()}")
                self._out += piece
        return self._out.split(b"\n")[0].decode()

    def cpu_seconds(self) -> float:
        """Time that it has had of all cores together."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def await_work(self, seconds: float) -> None:
        """Waits until it has worked for so long."""
        await_condition(lambda: self.cpu_seconds() > seconds, f"{seconds} s of its work")

    def errors(self) -> str:
        size = os.fstat(self._err.fileno()).st_size
        return os.pread(self._err.fileno(), size, 0).decode(errors="replace")  # it may be writing

    def end(self, how: signal.Signals = signal.SIGTERM) -> finished:
        """Sends a signal and waits for the end."""
        self.process.send_signal(how)
        return self.finish(END_SECONDS_MAX)

    def finish(self, seconds_max: float = RUN_SECONDS_MAX) -> finished:
        """Waits for the end."""
        start = time.monotonic()
        rest, _ = self.process.communicate(timeout=seconds_max)
        seconds = time.monotonic() - start
        return finished(self.process.returncode, self._out + rest, self.errors(), seconds)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._err.close()


class program_case(unittest.TestCase):
    """A test with a folder of its own and targets that end with it."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="runnel-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)

    def random_file(self, name: str, size: int) -> Path:
        path = self.folder / name
        path.write_bytes(os.urandom(size))
        return path

    def start(self, *words: object) -> started:
        return self.start_program(binary, *words)

    def start_program(self, which: Path, *words: object) -> started:
        command = started(which, *words)
        self.addCleanup(command.close)
        return command

    def serve(self, socket: str, *namespaces: str, options: tuple[str, ...] = ()) -> started:
        """A target that accepts. Its first line is checked here for every test."""
        named = [word for namespace in namespaces for word in ("--namespace", namespace)]
        target = self.start("target", "--listen", self.at(socket), *named, *options)
        line = target.line()
        self.assertTrue(line.startswith("ready "), line)
        return target

    def load_on(self, target: started) -> started:
        """A client in full swing: its memory has been mapped by the target, besides its own."""
        before = memfds_mapped(target.process.pid)
        load = self.start("perf", self.at("a.sock"), "--depth", "32", "--time", "30")
        await_condition(lambda: memfds_mapped(target.process.pid) > before, "the client's memory")
        return load

    def await_tasks(self, whom: started, expected: str) -> None:
        """Signals until its tasks are what they should be; it may be starting up."""
        def told() -> bool:
            whom.process.send_signal(signal.SIGUSR1)
            return re.search(expected, whom.errors()) is not None
        await_condition(told, expected)

    def at(self, socket: str) -> str:
        return f"vfio-user:{self.folder / socket}"

    def succeed(self, *words: object, feed: bytes | None = None) -> finished:
        done = run(*words, feed=feed)
        self.assertEqual(done.status, 0, done.err)
        return done
