"""What is checked of `runnel doctor`: that it names each cause, and that its remedies are some."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bpftool import structure
from guest import boot_report
from judge import verdict
from laboratory import place

IDS = {"pci", "iommu", "address_width", "interrupt_remapping", "vfio_module", "iommufd",
       "device_driver", "group_viable", "device_access", "memlock", "hugepages", "io_uring",
       "cpuset"}
SOFT_WAYS = ["vfio-user", "file", "ram", "null"]  # that need no device


@dataclass(frozen=True)
class cause:
    """What a check is to say of a state that is wrong."""

    id: str
    status: str
    words: tuple[str, ...]  # of its cause and its remedy

    def is_told(self, line: str) -> bool:
        return (line.startswith(f"{self.status} {self.id} ")
                and all(word in line for word in self.words))


def is_mended(report: boot_report, _: place, wanted: cause) -> verdict:
    """It was told with its remedy, and later, when that had been typed, the check was ok."""
    lines = [line for line in report.facts.get("said", []) if f" {wanted.id} " in line]
    told = [number for number, line in enumerate(lines) if wanted.is_told(line)]
    is_well = bool(told) and any(line.startswith("ok ") for line in lines[told[0]:])
    return verdict(wanted.id, is_well, " -> ".join(lines) or "said NOTHING")


def is_told(report: boot_report, _: place, wanted: cause, said: str = "doctor") -> verdict:
    """It is told at the end, with what is to be done outside of the machine."""
    lines = [f"{one['status']} {one['id']} {one['cause']}; remedy: {one['remedy']}"
             for one in _diagnosis(report, said)["checks"] if one["id"] == wanted.id]
    return verdict(wanted.id, len(lines) == 1 and wanted.is_told(lines[0]), " / ".join(lines))


def rest_is_well(report: boot_report, _: place, but: tuple[str, ...]) -> verdict:
    """At the end all is ok but what no command mends; the exit status says so, too."""
    told = _diagnosis(report, "doctor")
    checks = {one["id"]: one for one in told["checks"]}
    wrong = {name for name, one in checks.items() if one["status"] != "ok"}
    empty = {name for name, one in checks.items() if not one["remedy"]}
    passed = (set(checks) == IDS and wrong == set(but) and empty == IDS - wrong
              and report.fact("status") == "0")
    return verdict("rest", passed, f"{len(checks)} checks, of which {', '.join(wrong) or 'none'} "
                   f"not ok; exit status {report.fact('status')}")


def ways_are(report: boot_report, _: place, first: tuple[str, ...], said: str = "doctor"
             ) -> verdict:
    """Those ways to devices work, and those that need none; the others say why they do not."""
    ways = _diagnosis(report, said)["interfaces"]
    works = [way["name"] for way in ways if way["works"]]
    return verdict("ways", works == [*first, *SOFT_WAYS] and all(way["why"] for way in ways),
                   ", ".join(works))


def devices_are(report: boot_report, where: place, taken: str, left: str) -> verdict:
    """One device would come by the transport, another needs to be bound first."""
    found = {one["address"]: one for one in _diagnosis(report, "doctor")["devices"]}
    told = [f"{name}: {found[name]['transport']}, {found[name]['why']}" for name in (taken, left)]
    passed = (found[taken]["transport"] == where.transport and found[left]["transport"] == "none"
              and f"`runnel bind {left}`" in found[left]["why"])
    return verdict("devices", passed, "; ".join(told))


def structures_agree(said: list[dict[str, Any]], judge: Mapping[str, structure]) -> verdict:
    """Each structure is as bpftool has it: its size, and each member with its place and type."""
    wrong = [one["name"] for one in said if not _agrees(one, judge.get(one["name"]))]
    members = sum(len(one["fields"]) for one in said)
    release = said[0]["kernel"] if said else "nothing"
    return verdict("structures", len(said) == 5 and not wrong,
                   f"{members} members in {len(said)} structures of Linux {release}"
                   + (f"; bpftool has others in {', '.join(wrong)}" if wrong else ""))


def _agrees(said: dict[str, Any], judge: structure | None) -> bool:
    fields = [(one["name"], one["offset_bits"], one["bits"] or 0) for one in said["fields"]]
    text = " ".join(f"{one['declaration']};" for one in said["fields"])
    return (judge is not None and said["source"] == "btf" and said["bytes"] == judge.size
            and fields == judge.fields and text == judge.text)


def structures_are_known_only(said: list[dict[str, Any]], device_of: str) -> verdict:
    """A kernel that tells nothing gets the table, marked as such. @param device_of  whose"""
    sources = {one["source"] for one in said}
    device = next((one for one in said if one["name"] == "vfio_device"), None)
    passed = (len(said) == 5 and sources == {"table"} and device is not None
              and device["from"] == device_of and all(one["why"] for one in said)
              and all(one["fields"] for one in said))
    return verdict("structures", passed, f"by {', '.join(sources)}, as known of Linux "
                   f"{device and device['from']}: {device and device['why']}")


def told_structures(report: boot_report) -> list[dict[str, Any]]:
    return _diagnosis(report, "doctor")["structures"]


def _diagnosis(report: boot_report, name: str) -> dict[str, Any]:
    return json.loads(report.texts[name])
