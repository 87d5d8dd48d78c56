"""What is checked of guests whose kernel gives a device to programs, by VFIO."""

import json

from guest import boot_report
from judge import verdict
from laboratory import place


def platform_is(report: boot_report, where: place) -> verdict:
    """The IOMMU is as wide as asked for, and the kernel uses what it has for interrupts.

    @spec Intel VT-d 4.1 §11.4.2 (MGAW, bits 21:16), §11.4.3 (IR, bit 3)
    """
    capabilities, more = [int(word, 16) for word in report.fact("iommu").split()]
    bits = (capabilities >> 16 & 0x3F) + 1
    can_remap = bool(more >> 3 & 1)
    remapped = "IR-" in report.texts["interrupts"]
    return verdict("platform", bits == where.address_bits and can_remap == remapped
                   == where.remapping,
                   f"Linux {report.fact('kernel')}, {bits} bits, interrupts "
                   f"{'' if remapped else 'not '}remapped")


def driver_returns(report: boot_report, _: place) -> verdict:
    """The disk was the kernel's, then a program's, then the kernel's again."""
    drivers = report.facts.get("driver", [])
    return verdict("driver", drivers == ["nvme", "vfio-pci", "nvme"], ", ".join(drivers))


def nodes_appear(report: boot_report, where: place) -> verdict:
    """A node for the group, and one for the device exactly where the kernel is to have it."""
    nodes = report.facts.get("node", [])
    has_group = any(node.removeprefix("/dev/vfio/").isdigit() for node in nodes)
    has_cdev = any(node.startswith("/dev/vfio/devices/") for node in nodes)
    passed = (has_group and "/dev/vfio/vfio" in nodes
              and has_cdev == ("/dev/iommu" in nodes) == ("cdev" in where.kernel.transports))
    return verdict("nodes", passed, ", ".join(nodes))


def user_is_let_in(report: boot_report, where: place) -> verdict:
    """The device's node is closed to an ordinary user until it is given to that user."""
    before = report.facts.get("open_to_all", [])
    after = report.facts.get("open_to_user", [])
    own = {"group": "/dev/vfio/", "cdev": "/dev/vfio/devices/"}[where.transport]
    passed = (len(after) == 2 and after[1].startswith(own) and after[1] not in before)
    return verdict("user", passed, f"uid 1000 opens {', '.join(after)}")


def program_runs(report: boot_report, _: place) -> verdict:
    """Our program works in the guest for an ordinary user."""
    identity = json.loads(report.texts["identify"])
    measured = json.loads(report.texts["perf"])
    passed = bool(identity) and measured["ios"] > 0 and not measured["verify_mismatches"]
    return verdict("program", passed, f"`runnel perf ram:` verified {measured['ios']} I/Os")


def was_gone(report: boot_report, _: place) -> verdict:
    return verdict("plug", "gone" in report.facts, f"{report.fact('gone') or 'nothing'} went away")
