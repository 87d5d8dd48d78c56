"""What is checked of the ways to a device: refusals, what idleness costs, and where data goes."""

import json
import re
from dataclasses import dataclass

from guest import boot_report
from judge import verdict
from laboratory import place

DATA_EVENTS = ("pci_nvme_mmio_asqaddr*", "pci_nvme_map_prp")  # of QEMU, for nothing_is_copied
WINDOW_BYTES = 64 << 20  # of a target's own memory; its admin queue is in it
ADMIN_COMMANDS_MAX = 64  # with data, while a controller is brought up
GIANT_BYTES = 1 << 30
BUSY_SHARE_MIN = 50  # percent of a CPU
IDLE_SHARE_MAX = 20  # with two I/Os a second, or none
UP_RATIO_MAX = 2  # for four devices
CORES = ("0", "0-1", "0-2")  # of runs with one more queue each


@dataclass(frozen=True)
class refusal:
    """What our program is to say when it is asked for what cannot be: object and remedy."""

    name: str
    words: tuple[str, ...]


def is_refused(report: boot_report, _: place, wanted: refusal) -> verdict:
    """It failed with one line that has these words, and the device is as it was."""
    status, before, after, *said = report.texts[f"refusal {wanted.name}"].splitlines()
    passed = (status == "1" and before == after and len(said) == 1
              and all(word in said[0] for word in wanted.words))
    changed = "" if before == after else f"; CHANGED from {before} to {after}"
    return verdict(wanted.name, passed, f"{status}: {' / '.join(said) or 'NOTHING'}{changed}")


def binding_is_true(report: boot_report, _: place, ids: str, driver: str) -> verdict:
    """`--dry-run` changes nothing and shows what is done; `unbind` brings the old driver back.

    The states are: before and after each show, after what was shown was done by a shell; then
    after `bind`, and after `unbind`.
    """
    free, bound = f"{driver} (null) unknown", f"vfio-pci vfio-pci {ids} {driver}"
    states = report.facts.get("state", [])
    shown = [len(report.texts[f"shown {command}"].splitlines()) for command in ("bind", "unbind")]
    passed = (states == [free, free, bound, bound, bound, free, bound, free] and all(shown))
    return verdict("dry-run", passed, f"{shown[0]} and {shown[1]} lines shown, then done; "
                   f"{' -> '.join(state.split()[0] for state in states)}")


def remedy_is_noted(report: boot_report, _: place, words: tuple[str, ...]) -> verdict:
    """Whoever binds a part of a group is told at once what else there is to bind."""
    lines = report.texts["note"].splitlines()
    return verdict("note", len(lines) == 1 and all(word in lines[0] for word in words),
                   " / ".join(lines) or "said NOTHING")


def sleeps(report: boot_report, _: place) -> verdict:
    """With little to do it takes little of a CPU, and interrupts wake it; one that polls does not.

    The calmest of several spans counts: what the host takes from the guest looks like its CPU time.
    @error LookupError: a span was not measured
    """
    busy, adaptive, target = [
        min((_span.parse(fact) for fact in report.facts[run]), key=lambda span: span.share)
        for run in ("busy", "adaptive", "target")]
    measured = json.loads(report.texts["perf adaptive"])
    ios = round(measured["iops"] * adaptive.elapsed_ms / 1000)
    passed = (busy.share >= BUSY_SHARE_MIN and busy.interrupts == 0
              and max(adaptive.share, target.share) <= IDLE_SHARE_MAX
              and adaptive.interrupts >= ios // 2 > 0 and not measured["errors"])
    return verdict("idle", passed, f"busy {busy}, adaptive {adaptive} for {ios} I/Os, "
                   f"target {target}", {"%": round(adaptive.share)})


@dataclass(frozen=True)
class _span:
    """What a process had while it was watched: CPU time, and interrupts of its device."""

    elapsed_ms: int
    cpu_ms: int
    interrupts: int

    @classmethod
    def parse(cls, fact: str) -> "_span":
        elapsed_ms, cpu_ms, interrupts = [int(word) for word in fact.split()]
        return cls(elapsed_ms, cpu_ms, interrupts)

    @property
    def share(self) -> float:
        return 100 * self.cpu_ms / self.elapsed_ms

    def __str__(self) -> str:
        return f"{self.share:.1f} % of a CPU and {self.interrupts} interrupts"


def vectors_grow(report: boot_report, _: place) -> verdict:
    """One queue more is one vector more: each is asked for once, and no other is taken."""
    held = dict(fact.split() for fact in report.facts.get("vectors", []))
    told, passed = [], True
    for queues, cores in enumerate(CORES, 1):
        calls = re.findall(r"start=(\d+) count=([1-9]\d*)", report.texts[f"calls {cores}"])
        asked = [vector for first, count in calls
                 for vector in range(int(first), int(first) + int(count))]
        passed &= asked == [*range(1, queues + 1)] and held.get(cores) == str(queues)
        told.append(f"{held.get(cores)} by {len(calls)} calls")
    return verdict("vectors", passed, ", ".join(told))


def four_come_up_together(report: boot_report, _: place) -> verdict:
    """The best of several starts: what four devices add is less than twice what one adds."""
    took: dict[int, list[int]] = {0: [], 1: [], 4: []}
    for fact in report.facts["up"]:
        count, took_ms = fact.split()
        took[int(count)].append(int(took_ms))
    none, one, four = (min(took[count]) for count in (0, 1, 4))
    return verdict("up", 0 < four - none < UP_RATIO_MAX * (one - none),
                   f"ms until ready: {none} without a device, {one} with one, {four} with four",
                   {"ms for four": four - none})


def nothing_guards(report: boot_report, _: place) -> verdict:
    """There is no IOMMU, I/O was right in a page of 1 GiB, and its user was warned."""
    measured = json.loads(report.texts["perf 1:4096"])
    warned = "no IOMMU" in report.texts["warning"]
    passed = (report.fact("groups") == "0" and warned and measured["ios"] > 0
              and not measured["errors"] and not measured["verify_mismatches"]
              and measured["page_bytes"] == GIANT_BYTES)
    return verdict("unguarded", passed, f"{report.fact('groups')} groups, {measured['ios']} "
                   f"verified I/Os, {'' if warned else 'NOT '}warned")


def nothing_is_copied(report: boot_report, _: place) -> verdict:
    """The device reads and writes the client's memory, and none of the target's.

    By QEMU's word: data of the target's I/Os is nowhere near its admin queue. By the target's, too.
    """
    own = _sessions(report.trace)[-2]  # the last is the kernel's, which has the disk back
    queue = int(re.findall(r"address=(\w+)", own)[-1], 16)  # written by halves, or at once
    data = [int(address, 16) for address in re.findall(r"map_prp .*prp1 (\w+)", own)]
    near = sum(abs(address - queue) < WINDOW_BYTES for address in data)
    served = re.search(r"served reads=(\d+) writes=(\d+) .*payload_bytes_copied=(\d+)",
                       report.texts["target"])
    reads, writes, copied = [int(word) for word in served.groups()] if served else (0, 0, -1)
    passed = (len(data) - near >= reads + writes > 0 and near <= ADMIN_COMMANDS_MAX and copied == 0)
    return verdict("zero-copy", passed, f"{len(data) - near} of {len(data)} transfers beyond the "
                   f"target's memory, for {reads + writes} I/Os; it says {copied} bytes copied")


def _sessions(trace: str) -> list[str]:
    """The trace of each driver of the controller, from where it gives it an admin queue."""
    return re.split(r"(?=^pci_nvme_mmio_asqaddr wrote)", trace, flags=re.MULTILINE)[1:]
