"""What is checked after a guest left: pure functions over what it and QEMU reported."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest import VIRTUAL_CPUS, boot_report

DOORBELLS = 0x1000  # offset of the first doorbell in BAR 0; @spec NVMe PCIe Transport 1.0 §3.1.2
# Fields that must read the same through Linux and nvme-cli as through `runnel identify`, which
# gives them nvme-cli's names. What changes between two readings, such as `nuse`, is not among them.
CONTROLLER_FIELDS = ("vid", "ssvid", "sn", "mn", "fr", "mdts", "cntlid", "ver", "nn", "subnqn")
NAMESPACE_FIELDS = ("nsze", "ncap", "flbas", "lba_bytes")


@dataclass(frozen=True)
class verdict:
    check: str
    passed: bool
    detail: str


check = Callable[[boot_report], verdict]


def data_is_equal(report: boot_report, digest: str, mib: int) -> verdict:
    """The guest read back what it wrote, with no cache of its own in between."""
    equal = report.fact("read") == digest
    return verdict("data", equal,
                   f"{mib} MiB written and read back {'equal' if equal else 'CHANGED'}")


def copy_is_equal(file: Path, digest: str, mib: int) -> verdict:
    """What our own driver copied out of the disk begins with what the guest wrote."""
    with open(file, "rb") as copied:
        equal = hashlib.sha256(copied.read(mib << 20)).hexdigest() == digest
    return verdict("copy", equal, f"`runnel copy` gives {'the same' if equal else 'OTHER'} bytes")


def msix_works(report: boot_report) -> verdict:
    """Every vector is MSI-X, and every I/O queue has interrupted a CPU."""
    kinds = [vector.split()[1] for vector in report.facts.get("vector", [])]
    counts = _interrupts_by_queue(report)
    queues = [f"nvme0q{number}" for number in range(1, VIRTUAL_CPUS + 1)]
    passed = bool(kinds) and set(kinds) == {"msix"} and all(counts.get(q, 0) > 0 for q in queues)
    told = ", ".join(f"{queue} {count}" for queue, count in counts.items())
    return verdict("msi-x", passed, f"vectors {' '.join(kinds) or 'none'}; interrupts {told}")


def intx_works(report: boot_report) -> verdict:
    """There is no MSI-X vector, and the one line that all queues share has interrupted."""
    lines = report.texts.get("interrupts", "").splitlines()
    total = sum(_interrupts(line) for line in lines)
    passed = "vector" not in report.facts and len(lines) == 1 and total > 0
    return verdict("intx", passed, f"{len(lines)} shared line, {total} interrupts")


def doorbells_are_mapped(report: boot_report) -> verdict:
    """The driver's doorbells never became messages; the firmware, which has no MSI-X, may trap."""
    _, driver_began, driver_trace = report.trace.partition("vfio_msix_enable")
    messages = _doorbell_messages(driver_trace)
    areas = re.findall(r"vfio_region_mmap .*\[(\w+) - (\w+)\]", report.trace)
    mapped = any(int(first, 16) <= DOORBELLS < int(last, 16) for first, last in areas)
    commands = _commands(report)
    passed = bool(driver_began) and mapped and messages == 0 and commands > 0
    return verdict("doorbells", passed,
                   f"{'mapped' if mapped else 'NOT mapped'}, {messages} as messages for "
                   f"{commands} commands")


def doorbells_are_trapped(report: boot_report) -> verdict:
    """They come as messages: none can be mapped, or QEMU unmapped them for a shared interrupt."""
    messages = _doorbell_messages(report.trace)
    return verdict("doorbells", messages > 0,
                   f"{messages} as messages for {_commands(report)} commands")


def identify_agrees(report: boot_report, ours: dict[str, Any]) -> verdict:
    """Linux with nvme-cli and `runnel identify` read the same controller and namespace."""
    theirs_controller = json.loads(report.texts["id-ctrl"])
    theirs_namespace = json.loads(report.texts["id-ns"])
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


def _interrupts(line: str) -> int:
    """All CPUs' counts of one line of /proc/interrupts."""
    return sum(int(count) for count in line.split()[1 : 1 + VIRTUAL_CPUS])


def _interrupts_by_queue(report: boot_report) -> dict[str, int]:
    lines = report.texts.get("interrupts", "").splitlines()
    return {line.split()[-1]: _interrupts(line) for line in lines}


def _doorbell_messages(trace: str) -> int:
    writes = re.findall(r"vfio_region_write +\(.*:region0\+(\w+),", trace)
    return sum(int(offset, 16) >= DOORBELLS for offset in writes)


def _commands(report: boot_report) -> int:
    """Reads, writes and flushes that the guest's disk completed.

    Fields 1, 5 and 16 of /sys/block/DISK/stat.
    """
    fields = [int(word) for word in report.fact("stat").split()]
    return fields[0] + fields[4] + (fields[15] if len(fields) > 15 else 0)
