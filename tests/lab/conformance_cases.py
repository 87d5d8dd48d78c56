"""Cases in which the guest's kernel is asked what the fake kernel of the unit tests is asked."""

import re
from pathlib import Path

import judge
import judge_io
import judge_vfio
import kernels
from guest import boot_report
from laboratory import DISK_MIB, lab_case, laboratory, place
from vfio_cases import (BEST, FEW_MIB, MODULES, ON_ROOT_BUS, OWN_CDEV, at, drive, setup,
                        write_image)

KVM = "kvm-amd"  # what QEMU emulates of a machine for machines
CASES_MIN = 15  # of the suite for each way


def ways_of(kernel: kernels.kernel) -> tuple[str, ...]:
    """The ways to a device; where there is iommufd, it serves as a container, too."""
    return (*kernel.transports, *(["compat"] if "cdev" in kernel.transports else []))


def suite_passed(report: boot_report, where: place) -> judge.verdict:
    """Each way answered as the one table of the suite has it, so as the fake kernel does.

    Our own kernel has a sample device, too, which was asked for its features.
    """
    said = report.texts["conformance"]
    count = re.search(r"\[ +PASSED +\] (\d+) tests", said)
    passed = int(count[1]) if count else 0
    ways = ways_of(where.kernel)
    asked = [way for way in ways if f"real_{way}" in said]
    has_sample = report.fact("sample") != "" or "cdev" not in where.kernel.transports
    good = (report.fact("status") == "0" and "FAILED" not in said and asked == list(ways)
            and has_sample
            and passed >= CASES_MIN * len(ways))
    return judge.verdict("suite", good, f"{passed} cases passed, by {', '.join(asked)}",
                         {"cases": passed})


def case_conform(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    image = folder / "disk"
    write_image(image, lab.data[: FEW_MIB << 20], DISK_MIB)
    machine = lab.machine_of(folder, where.kernel, [*MODULES, KVM], program=lab.conformance)
    report = machine.boot(setup("conform", [*drive("image", image), *ON_ROOT_BUS], where,
                                f"mib={FEW_MIB} ways={','.join(ways_of(where.kernel))}"))
    return [judge_vfio.platform_is(report, where), judge_vfio.driver_returns(report, where),
            judge.data_is_equal(report, lab.digest(FEW_MIB), FEW_MIB, reads=2),
            suite_passed(report, where), judge_io.nothing_is_pinned(report, where)]


# All ways of a kernel in one guest.
PLACES = tuple(where for where in BEST if where.transport == where.kernel.transports[-1])

CASES = (
    *at(PLACES, lab_case("conform", "vfio", "the kernel answers as our fake kernel does",
                         case_conform), OWN_CDEV),
)
