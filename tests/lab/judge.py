"""What is checked after a guest left: pure functions over what it and QEMU reported."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from guest import boot_report

DOORBELLS = 0x1000  # offset of the first doorbell in BAR 0; @spec NVMe PCIe Transport 1.0 §3.1.2
FATAL = 0x2  # CSTS.CFS; @spec NVMe Base 2.0 §3.1.3.6
# Linux gives a controller the 10 s of CAP.TO to become ready, and an admin command 60 s.
REFUSAL_DEADLINE_S = 20
PAGE_BYTES = 4096
# Fields that must read the same through Linux and nvme-cli as through `runnel identify`, which
# gives them nvme-cli's names. What changes between two readings, such as `nuse`, is not among them.
CONTROLLER_FIELDS = ("vid", "ssvid", "sn", "mn", "fr", "mdts", "cntlid", "ver", "nn", "subnqn")
NAMESPACE_FIELDS = ("nsze", "ncap", "flbas", "lba_bytes")


@dataclass(frozen=True)
class verdict:
    check: str
    passed: bool
    detail: str
    figures: dict[str, int] = field(default_factory=dict)  # of the table, by their units


check = Callable[[boot_report], verdict]


def data_is_equal(report: boot_report, digest: str, mib: int, reads: int = 1) -> verdict:
    """The guest read back what it wrote, so many times, with no cache of its own in between."""
    digests = report.facts.get("read", [])
    equal = sum(read == digest for read in digests)
    return verdict("data", equal == len(digests) == reads,
                   f"{mib} MiB written, read back equal {equal} times of {reads}")


def copy_is_equal(file: Path, digest: str, mib: int, first_mib: int = 0) -> verdict:
    """What our own driver copied out of the disk has there what the guest wrote."""
    with open(file, "rb") as copied:
        copied.seek(first_mib << 20)
        equal = hashlib.sha256(copied.read(mib << 20)).hexdigest() == digest
    return verdict("copy", equal, f"`runnel copy` gives {'the same' if equal else 'OTHER'} bytes")


def msix_works(report: boot_report, queues: int = 2, disks: int = 1) -> verdict:
    """Every vector is MSI-X, and every I/O queue has interrupted a CPU."""
    kinds = [vector.split()[1] for vector in report.facts.get("vector", [])]
    counts = _interrupts_by_queue(report)
    owed = [f"nvme{disk}q{queue}" for disk in range(disks) for queue in range(1, queues + 1)]
    passed = bool(kinds) and set(kinds) == {"msix"} and all(counts.get(q, 0) > 0 for q in owed)
    told = ", ".join(f"{queue} {count}" for queue, count in counts.items())
    return verdict("msi-x", passed,
                   f"{len(kinds)} vectors {'/'.join(sorted(set(kinds)))}; interrupts {told}")


def intx_works(report: boot_report) -> verdict:
    """There is no MSI-X vector, and the one line that all queues share has interrupted."""
    lines = report.texts.get("interrupts", "").splitlines()
    total = sum(interrupts(line) for line in lines)
    passed = "vector" not in report.facts and len(lines) == 1 and total > 0
    return verdict("intx", passed, f"{len(lines)} shared line, {total} interrupts")


def doorbells_are_mapped(report: boot_report) -> verdict:
    """The driver's doorbells never became messages."""
    rings = _rings(report)
    passed = rings.by_driver and rings.mapped and rings.messages == 0 and rings.commands > 0
    return verdict("doorbells", passed, str(rings))


def doorbells_are_trapped(report: boot_report) -> verdict:
    """None can be mapped, and every command has rung, if not alone."""
    rings = _rings(report)
    passed = rings.by_driver and not rings.mapped and rings.messages > rings.commands // 2 > 0
    return verdict("doorbells", passed, str(rings))


def doorbells_are_shadowed(report: boot_report) -> verdict:
    """None can be mapped, and yet few are messages: those of the admin queue."""
    rings = _rings(report)
    passed = rings.by_driver and not rings.mapped and 0 < rings.messages < rings.commands // 4
    return verdict("doorbells", passed, str(rings))


def doorbells_come_as_messages(report: boot_report) -> verdict:
    """QEMU unmaps doorbells while a shared interrupt is being served, and a while after."""
    messages = _doorbell_messages(report.trace)
    return verdict("doorbells", messages > 0,
                   f"{messages} as messages for {_commands(report)} commands")


def memory_comes_in_pages(report: boot_report) -> verdict:
    """The guest's IOMMU has memory mapped as it is used, so the target meets a map for each I/O."""
    sizes = [int(size, 16) for size in re.findall(r"vfio_user_dma_map .*size (\w+)", report.trace)]
    pages = sum(size == PAGE_BYTES for size in sizes)
    return verdict("maps", pages > _commands(report) > 0,
                   f"{pages} of {len(sizes)} maps are of one page")


def booted_twice(report: boot_report) -> verdict:
    boots = len(report.facts.get("kernel", []))
    return verdict("reboot", boots == 2, f"{boots} boots of one QEMU")


def memory_is(report: boot_report, run: str, page_bytes: int, nodes: dict[int, int]) -> verdict:
    """A run of `runnel perf` had pages of this size, and each core's buffers on this node."""
    measured = json.loads(report.texts[run])
    found = {core["core"]: core["memory_node"] for core in measured["cores"]}
    return verdict(run, measured["page_bytes"] == page_bytes and found == nodes,
                   f"pages of {measured['page_bytes'] >> 10} KiB, core: node {found}")


def client_stayed(log: str) -> verdict:
    """One connection served the guest from beginning to end, and nothing was amiss."""
    came = log.count("client came")
    troubles = [line for line in log.splitlines() if "[warning]" in line]
    return verdict("connection", came == 1 and not troubles,
                   f"{came} connections; {troubles[0] if troubles else 'no trouble'}")


def controller_failed(report: boot_report) -> verdict:
    """The guest's driver has given up, by the controller's word and not for want of an answer."""
    said = re.findall(r"CSTS=(\w+)", report.texts.get("refusal", ""))
    seconds = int(report.fact("refused") or REFUSAL_DEADLINE_S + 1)
    passed = (bool(said) and all(int(status, 16) & FATAL for status in said)
              and seconds <= REFUSAL_DEADLINE_S)
    return verdict("guest", passed,
                   f"its driver saw CSTS={'/'.join(said) or 'nothing'} within {seconds} s")


def remedy_is_told(log: str) -> verdict:
    """The target says what is wrong and what to do, in one line and once."""
    lines = [line for line in log.splitlines() if "share=on" in line]
    return verdict("target", len(lines) == 1, lines[0] if lines else "said NOTHING of share=on")


def disk_number(report: boot_report, ours: dict[str, Any]) -> int:
    """What the guest calls the disk of a controller: they are found in any order.

    @error LookupError: the guest has not seen it
    """
    serial = _trim(ours["controller"]["sn"])
    for name, text in report.texts.items():
        if name.startswith("id-ctrl ") and _trim(json.loads(text)["sn"]) == serial:
            return int(name.removeprefix("id-ctrl "))
    raise LookupError(f"the guest has no disk with serial number {serial}")


def identify_agrees(report: boot_report, ours: dict[str, Any], disk: int = 0) -> verdict:
    """Linux with nvme-cli and `runnel identify` read the same controller and namespace."""
    theirs_controller = json.loads(report.texts[f"id-ctrl {disk}"])
    theirs_namespace = json.loads(report.texts[f"id-ns {disk}"])
    formats = theirs_namespace["lbafs"]
    theirs_namespace["lba_bytes"] = 1 << formats[theirs_namespace["flbas"] & 0xF]["ds"]
    pairs = [(name, theirs_controller.get(name), ours["controller"].get(name))
             for name in CONTROLLER_FIELDS]
    pairs += [(name, theirs_namespace.get(name), ours["namespaces"][0].get(name))
              for name in NAMESPACE_FIELDS]
    unequal = [f"{name}: nvme-cli {theirs!r}, runnel {us!r}"
               for name, theirs, us in pairs if theirs is None or _trim(theirs) != _trim(us)]
    return verdict("identify", not unequal, "; ".join(unequal) or f"{len(pairs)} fields agree")


def _trim(value: object) -> object:
    """Text fields are padded with spaces on the wire; a tool may or may not cut them off."""
    return value.rstrip() if isinstance(value, str) else value


def interrupts(line: str) -> int:
    """All CPUs' counts of one line of /proc/interrupts."""
    return sum(int(count) for count in takewhile(str.isdigit, line.split()[1:]))


def _interrupts_by_queue(report: boot_report) -> dict[str, int]:
    lines = report.texts.get("interrupts", "").splitlines()
    return {line.split()[-1]: interrupts(line) for line in lines}


@dataclass(frozen=True)
class _rings_seen:
    """How the driver rang. The firmware has no MSI-X and may trap: what it did does not count."""

    by_driver: bool
    mapped: bool
    messages: int
    commands: int

    def __str__(self) -> str:
        return (f"{'mapped' if self.mapped else 'not mapped'}, {self.messages} as messages for "
                f"{self.commands} commands")


def _rings(report: boot_report) -> _rings_seen:
    _, driver_began, driver_trace = report.trace.partition("vfio_msix_enable")
    areas = re.findall(r"vfio_region_mmap .*\[(\w+) - (\w+)\]", report.trace)
    mapped = any(int(first, 16) <= DOORBELLS < int(last, 16) for first, last in areas)
    return _rings_seen(bool(driver_began), mapped, _doorbell_messages(driver_trace),
                       _commands(report))


def _doorbell_messages(trace: str) -> int:
    writes = re.findall(r"vfio_region_write +\(.*:region0\+(\w+),", trace)
    return sum(int(offset, 16) >= DOORBELLS for offset in writes)


def _commands(report: boot_report) -> int:
    """Reads, writes and flushes that the guest's disk completed.

    Fields 1, 5 and 16 of /sys/block/DISK/stat.
    """
    fields = [int(word) for word in report.fact("stat").split()]
    return fields[0] + fields[4] + (fields[15] if len(fields) > 15 else 0)
