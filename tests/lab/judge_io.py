"""What is checked of guests in which our program drives a controller of the machine."""

import json
import re

from guest import boot_report
from judge import PAGE_BYTES, interrupts, verdict
from laboratory import place

# Namespace and bytes of each I/O: its first namespace has blocks of 512 bytes, its second of 4096.
RUNS = ((1, 512), (1, 1 << 10), (1, 16 << 10), (1, 512 << 10),
        (2, 4 << 10), (2, 64 << 10), (2, 512 << 10))


def runs_are_right(report: boot_report, where: place,
                   runs: tuple[tuple[int, int], ...] = RUNS) -> verdict:
    """Each run of `runnel perf` did I/O and read what it had written, in pages of its place."""
    measured = [json.loads(report.texts[f"perf {namespace}:{size}"]) for namespace, size in runs]
    page_bytes = 2 << 20 if where.huge_pages else PAGE_BYTES
    passed = all(run["ios"] > 0 and not run["errors"] and not run["verify_mismatches"]
                 and run["page_bytes"] == page_bytes for run in measured)
    moved_mib = sum(run["ios"] * run["block_size"] for run in measured) >> 20
    ios = sum(run["ios"] for run in measured)
    return verdict("perf", passed, f"{moved_mib} MiB in {ios} verified I/Os, pages of "
                   f"{measured[0]['page_bytes'] >> 10} KiB", {"MiB": moved_mib})


def queues_interrupt(report: boot_report, _: place) -> verdict:
    """In every run each of the two I/O queues had a vector that interrupted a CPU."""
    total, silent = 0, []
    for namespace, size in RUNS:
        counts = vector_counts(report.texts[f"interrupts {namespace}:{size}"])
        total += sum(counts.values())
        if not all(counts.get(vector, 0) > 0 for vector in (1, 2)):
            silent.append(f"{namespace}:{size}")
    return verdict("interrupts", not silent, f"{total}, silent in {silent}" if silent
                   else f"{total} of vfio-pci's vectors", {"irqs": total})


def vector_counts(lines: str) -> dict[int, int]:
    """Interrupts by MSI-X vector, from lines of /proc/interrupts about `vfio-msix[1](BDF)`."""
    return {int(found[1]): interrupts(line) for line in lines.splitlines()
            if (found := re.search(r"vfio-msix\[(\d+)\]", line))}


def file_system_is_clean(said: str) -> verdict:
    """e2fsck, here, finds nothing amiss on the disk that our program has written in the guest."""
    return verdict("fsck", said.startswith("0 "), said)


def nothing_is_pinned(report: boot_report, _: place) -> verdict:
    """All that was pinned was let go, and no process counts locked or pinned memory as its own."""
    acquired, released = [int(word) for word in report.fact("pins").split()]
    processes = report.facts["pinning"][-1]
    return verdict("pins", acquired == released > 0 and not processes,
                   f"{released} pages of {acquired} let go{processes and ', not by ' + processes}")


def calls_stay_on_lists(report: boot_report, _: place) -> verdict:
    """Our program's system calls were filtered, and the kernel's log has none that was refused."""
    count = report.fact("refused_calls")
    return verdict("filters", count == "0", f"{count or 'not known how many'} calls off the lists")
