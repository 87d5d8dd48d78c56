"""What is checked of guests in which our program loses its device, or nearly, under load."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from guest import boot_report
from judge import verdict
from laboratory import place

IOS_MIN = 1000
IN_FLIGHT_MAX = 2 * 8  # cores, and I/Os in flight on each
PROMISED_MS = 2000
LIMIT_MS = 10 * PROMISED_MS  # on a machine that others use, too
KILLED = 128 + 9
IT = "it"  # the load, where there is but one
NOTE = "runnel: note: "
GONE = "device gone"

check = Callable[[boot_report, place], verdict]


def was_under_load(report: boot_report, _: place) -> verdict:
    """By QEMU's count, so many of our program's I/Os were done before it happened."""
    done = int(report.fact("before"))
    return verdict("load", done >= IOS_MIN, f"{done} I/Os before")


def ends_in_time(report: boot_report, _: place) -> verdict:
    """Our program ended when its device was taken, in time, and then the kernel had it back."""
    at = _times(report)
    gone_ms, taken_ms = at["ended"] - at["lost"], at["returned"] - at["lost"]
    passed = (0 < max(gone_ms, taken_ms) <= LIMIT_MS and min(gone_ms, taken_ms) >= 0
              and max(at["ended"], at["returned"]) <= at["back"])
    return verdict("end", passed, f"taken after {taken_ms} ms, our program ended after "
                   f"{gone_ms} ms ({PROMISED_MS} promised), the kernel's driver ran after "
                   f"{at['back'] - at['lost']} ms", {"ms": max(gone_ms, taken_ms)})


def goes_on(report: boot_report, _: place, name: str = IT) -> verdict:
    """Nothing but what was in flight failed, and I/O went on after a pause."""
    load = _load(report, name)
    at = _times(report)
    after = int(report.fact("finally")) - int(report.fact("meanwhile"))
    pause_ms = load["latency_ns"]["max"] // 1_000_000
    status = "1" if load["errors"] else "0"
    passed = (report.fact(f"status_{name}") == status and after >= IOS_MIN
              and load["errors"] <= IN_FLIGHT_MAX and pause_ms <= LIMIT_MS
              and at["lost"] <= at["returned"] <= at["ended"] <= at["back"])
    return verdict("on", passed, f"{load['errors']} I/Os failed, the longest took {pause_ms} ms "
                   f"({PROMISED_MS} promised), then {after} more", {"ms": pause_ms})


def says_gone(report: boot_report, _: place, name: str = IT) -> verdict:
    """It failed by itself, and told of the device in one line."""
    told = _told(report, name)
    passed = (report.fact(f"status_{name}") == "1" and len(told) == 1 and GONE in told[0]
              and report.fact(f"name_{name}") in told[0])
    return verdict("told", passed, " / ".join(told) or "our program said nothing")


def says_what_failed(report: boot_report, _: place, name: str = IT) -> verdict:
    """Of a run with failed I/Os it tells in one line, of another nothing."""
    told = _told(report, name)
    subject = report.fact(f"name_{name}")
    named = [line for line in told if subject in line and "I/Os failed" in line]
    return verdict("told", len(told) == len(named) == bool(_load(report, name)["errors"]),
                   " / ".join(told) or "nothing to tell")


def was_killed(report: boot_report, _: place) -> verdict:
    status = report.fact(f"status_{IT}")
    return verdict("status", status == str(KILLED), f"our program ended with {status}")


def read_right(report: boot_report, _: place, name: str = IT) -> verdict:
    """Whatever was read, before and after, was what had been written there."""
    load = _load(report, name)
    return verdict("verify", load["ios"] >= IOS_MIN and load["verify_mismatches"] == 0,
                   f"{load['ios']} I/Os, {load['verify_mismatches']} with other data")


def was_started(report: boot_report, _: place, times: int = 4) -> verdict:
    """Enabled by firmware, kernel, our program, and kernel; once more if our program reset it."""
    starts = report.trace.count("pci_nvme_mmio_start_success ")
    return verdict("starts", starts == times, f"the controller was enabled {starts} times "
                   f"of {times}")


ENDS: tuple[check, ...] = (ends_in_time, says_gone, read_right, was_started)
GOES_ON: tuple[check, ...] = (goes_on, says_what_failed, read_right,
                              partial(was_started, times=5))


def mends_or_ends(report: boot_report, where: place) -> verdict:
    """It goes on, or it ends, by itself and with one line; either as it must where it has to."""
    ended = any(GONE in line for line in _told(report, IT))
    parts = [each(report, where) for each in (ENDS if ended else GOES_ON)]
    return verdict("either", all(part.passed for part in parts),
                   f"it {'ended' if ended else 'went on'}: "
                   + "; ".join(f"{part.check} {part.detail}" for part in parts), parts[0].figures)


def _load(report: boot_report, name: str) -> dict[str, Any]:
    load: dict[str, Any] = json.loads(report.texts[f"load {name}"])
    return load


def _told(report: boot_report, name: str) -> list[str]:
    said = report.texts[f"errors {name}"].splitlines()
    return [line for line in said if not line.startswith(NOTE)]


def _times(report: boot_report) -> dict[str, int]:
    """When what happened, in ms of the guest's clock."""
    return {name: int(at_ms) for name, at_ms in (mark.split() for mark in report.facts["at"])}
