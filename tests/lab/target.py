"""`runnel target` as a child process, and the commands that look at it from outside."""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from debian import lab_error

READY_DEADLINE_S = 20
STOP_DEADLINE_S = 10
COMMAND_DEADLINE_S = 60


@contextmanager
def serve(runnel: Path, socket: Path, options: list[str], log: Path) -> Iterator[None]:
    """A target that accepts on `socket` for as long as the context lasts.

    @error lab_error: it did not get ready, or SIGTERM did not end it with exit status 0
    """
    command = [str(runnel), "target", "--listen", f"vfio-user:{socket}", *options]
    with open(log, "wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=errors)
    try:
        _wait_until_ready(process, log)
        yield
        process.send_signal(signal.SIGTERM)
        status = process.wait(STOP_DEADLINE_S)
        if status != 0:
            raise lab_error(f"the target ended with status {status}: {_last_line(log)}")
    except subprocess.TimeoutExpired:
        raise lab_error(f"the target ignored SIGTERM for {STOP_DEADLINE_S} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def identify(runnel: Path, socket: Path) -> dict[str, Any]:
    """What `runnel identify` reads from the controller with our own driver."""
    told: dict[str, Any] = json.loads(_run(runnel, "identify", f"vfio-user:{socket}", "--json"))
    return told


def copy_out(runnel: Path, socket: Path, file: Path) -> None:
    """Copies the whole disk into a file with our own driver."""
    _run(runnel, "copy", f"vfio-user:{socket}", str(file))


def _run(runnel: Path, *words: str) -> str:
    try:
        done = subprocess.run([str(runnel), *words], stdin=subprocess.DEVNULL, check=False,
                              capture_output=True, text=True, timeout=COMMAND_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise lab_error(f"runnel {words[0]} took longer than {COMMAND_DEADLINE_S} s") from None
    if done.returncode != 0:
        raise lab_error(f"runnel {words[0]} exited {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_DEADLINE_S
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not any(line.startswith(b"ready ") for line in said.splitlines(keepends=True)
                      if line.endswith(b"\n")):
            if not selector.select(deadline - time.monotonic()):
                raise lab_error(f"the target was not ready within {READY_DEADLINE_S} s")
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                raise lab_error(f"the target ended before it was ready: {_last_line(log)}")
            said += more


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"
