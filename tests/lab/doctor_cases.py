"""Cases in which our program is asked what a machine lacks, and its remedies are typed."""

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import bpftool
import guest
import judge
import judge_doctor
import judge_vfio
from judge_doctor import cause
from laboratory import lab_case, laboratory, place
from vfio_cases import (BEST, EXTREMES, MODULES, ON_ROOT_BUS, at, check, drive, of, setup,
                        write_image)

MIB = 16
DOCTOR_SECONDS_MAX = 60
# Two functions that an IOMMU cannot keep apart, and one that stays with the kernel.
DISKS = ("addr=4.0,multifunction=on", "addr=4.1", "addr=5")
TAKEN, OTHER, LEFT = "0000:00:04.0", "0000:00:04.1", "0000:00:05.0"
WITHOUT_BTF = {"own": "5.19", "5.10": "5.8"}  # and whose structures are shown in their stead


def mended_in(where: place) -> tuple[cause, ...]:
    """What is wrong in the guest until a remedy is typed."""
    causes = [
        cause("device_driver", "warning", ("is bound to nvme", f"`sudo runnel bind {TAKEN}`")),
        cause("group_viable", "failed", (f"{OTHER} is bound to nvme",
                                         f"`sudo runnel bind {OTHER}`")),
        cause("device_access", "failed", ("may not open /dev/", "`sudo chown $USER /dev/")),
        cause("memlock", "failed", ("64 KiB may be locked", "`ulimit -S -l 65536`")),
        cause("hugepages", "warning", ("0 of 0 pages", "`echo 32 | sudo tee /sys/kernel/mm/")),
        cause("cpuset", "warning", ("CPUs 0 of 0-1: its affinity", "`taskset -p -c 0-1 $$`"))]
    if not where.remapping:
        causes.append(cause("interrupt_remapping", "failed",
                            ("does not remap", "allow_unsafe_interrupts")))
    if where.kernel.name != "own":  # which has all built in, and no groups of processes
        causes += [cause("vfio_module", "failed", ("no driver", "`sudo modprobe vfio-pci`")),
                   cause("cpuset", "warning", ("/limited has no more", "`echo 0-1 | sudo tee "))]
    if where.kernel.name not in ("5.10", "6.1"):  # which have no switch
        causes.append(cause("io_uring", "warning", ("kernel.io_uring_disabled is 2",
                                                    "`sudo sysctl -w kernel.io_uring_disabled=")))
    return tuple(causes)


def told_in(where: place) -> tuple[cause, ...]:
    """What no command in the guest can mend."""
    causes = []
    if where.address_bits < 48:
        causes.append(cause("address_width", "warning", ("translates 39 bits", "aw-bits=48")))
    if where.kernel.name != "own":
        causes.append(cause("iommufd", "warning", ("no /dev/iommu", "CONFIG_IOMMUFD")))
    return tuple(causes)


def disks_in(folder: Path) -> list[str]:
    words = []
    for number, address in enumerate(DISKS):
        image = folder / f"disk{number}"
        write_image(image, b"", MIB)
        words += [*drive(f"image{number}", image),
                  "-device", f"nvme,serial=lab{number},drive=image{number},{address}"]
    return words


def structures_verdict(said: list[dict[str, Any]], tree: Path, folder: Path,
                       where: place) -> judge.verdict:
    if known := WITHOUT_BTF.get(where.kernel.name):
        return judge_doctor.structures_are_known_only(said, known)
    return judge_doctor.structures_agree(said, bpftool.structures(tree, folder))


def case_doctor(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    machine = lab.machine_of(folder, where.kernel, MODULES)
    report = machine.boot(setup("doctor", disks_in(folder), where))
    mended, told = mended_in(where), told_in(where)
    ways = ("cdev", "group", "compat") if where.transport == "cdev" else ("group",)
    checks: tuple[check, ...] = (
        judge_vfio.platform_is,
        *[partial(judge_doctor.is_mended, wanted=wanted) for wanted in mended],
        *[partial(judge_doctor.is_told, wanted=wanted) for wanted in told],
        partial(judge_doctor.rest_is_well, but=tuple(one.id for one in told)),
        partial(judge_doctor.ways_are, first=ways),
        partial(judge_doctor.devices_are, taken=TAKEN, left=LEFT))
    return [*[check(report, where) for check in checks],
            structures_verdict(judge_doctor.told_structures(report), lab.tree_of(where.kernel),
                               folder, where)]


def case_iommu(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    """Three boots: without an IOMMU, with one that the kernel does not use, and by the remedy."""
    image = folder / "disk"
    write_image(image, b"", MIB)
    words = [*drive("image", image), *ON_ROOT_BUS]
    good = setup("iommu", words, where)
    boots = (
        ("absent", guest.guest_setup(words, "intel_iommu=on task=iommu"),
         cause("iommu", "failed", ("has no IOMMU", "`-device intel-iommu,intremap=on`")), ()),
        ("unused", guest.guest_setup(good.devices, "intel_iommu=off task=iommu"),
         cause("iommu", "failed", ("booted with intel_iommu=off", "boot without")), ()),
        ("used", good, cause("iommu", "ok", ("dmar0",)),
         ("cdev", "group", "compat") if where.transport == "cdev" else ("group",)))
    verdicts = []
    for name, asked, wanted, ways in boots:
        (folder / name).mkdir()
        report = lab.machine_of(folder / name, where.kernel, MODULES).boot(asked)
        verdicts += [judge_doctor.is_told(report, where, wanted),
                     judge_doctor.ways_are(report, where, ways)]
    return verdicts


def case_structures(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    """No guest: what is in a kernel's packages."""
    tree = lab.tree_of(where.kernel)
    done = subprocess.run([lab.runnel, "doctor", "--json", "--btf", tree], capture_output=True,
                          check=False, timeout=DOCTOR_SECONDS_MAX)  # this machine may lack much
    said = json.loads(done.stdout)["structures"]
    return [structures_verdict(said, tree, folder, where)]


def of_each_kernel(places: tuple[place, ...]) -> tuple[place, ...]:
    """By the best transport that it has."""
    return tuple(where for where in places if where.transport == where.kernel.transports[-1])


PACKAGED = tuple(where for where in of_each_kernel(BEST) if where.kernel.name != "own")
LEAST = tuple(where for where in of(EXTREMES, "6.12") if not where.remapping)

CASES = (
    *at(of_each_kernel(EXTREMES), lab_case("doctor", "vfio", "what a machine lacks, and remedies",
                                           case_doctor), LEAST),
    *at(of_each_kernel(BEST), lab_case("iommu", "vfio", "an IOMMU is absent, or not used",
                                       case_iommu), ()),
    *at(PACKAGED, lab_case("structures", "vfio", "VFIO's structures as packages have them",
                           case_structures), of(PACKAGED, "6.12")),
)
