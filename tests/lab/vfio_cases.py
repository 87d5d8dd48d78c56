"""Cases in which the guest's kernel gives QEMU's devices to programs, behind an IOMMU.

Each is a task in `guest/`, done on every kernel through every transport that it has.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import guest
import judge
import judge_vfio
import kernels
from laboratory import DISK_MIB, lab_case, laboratory, place

MODULES = ["nvme", "vfio-pci", "vfio_iommu_type1"]
FEW_MIB = 16
CONTROLLER = "nvme,id=disk,serial=lab"
ON_ROOT_BUS = ["-device", f"{CONTROLLER},drive=image,addr=4"]
# Its namespaces belong to a subsystem of it, where they stay when the controller is pulled out.
IN_SLOT = ["-device", "pcie-root-port,id=root_port,slot=1", "-device", "nvme-subsys,id=subsystem",
           "-device", f"{CONTROLLER},subsys=subsystem,bus=root_port",
           "-device", "nvme-ns,bus=disk,nsid=1,drive=image"]
HUGE_PAGES = 64

PLACES = tuple(place(kernel, transport, bits, remapping, huge)
               for kernel in kernels.KERNELS for transport in kernel.transports
               for bits, remapping, huge in product((39, 48), (False, True), (False, True)))
PLATFORMS = tuple(where for where in PLACES if not where.huge_pages)
# The least that a platform may have, and the most.
EXTREMES = tuple(where for where in PLATFORMS if (where.address_bits == 48) == where.remapping)
BEST = tuple(where for where in EXTREMES if where.remapping)

check = Callable[[guest.boot_report, place], judge.verdict]


def of(places: tuple[place, ...], kernel: str, *transports: str) -> tuple[place, ...]:
    """Those of a kernel. @param transports  none: through all that it has"""
    return tuple(where for where in places if where.kernel.name == kernel and
                 (not transports or where.transport in transports))


DEBIAN = of(BEST, "6.12")
OWN_CDEV = of(BEST, "own", "cdev")
OWN_GROUP = of(BEST, "own", "group")


def setup(task: str, devices: list[str], where: place, parameters: str = "") -> guest.guest_setup:
    """A guest for a task. @param devices  QEMU's words for disks and what is behind them"""
    remapping = "on" if where.remapping else "off"
    pages = f"hugepages={HUGE_PAGES} " if where.huge_pages else ""
    return guest.guest_setup(
        ["-device", f"intel-iommu,intremap={remapping},aw-bits={where.address_bits}", *devices],
        f"intel_iommu=on iommu=nopt task={task} transport={where.transport} "
        f"remapping={remapping} {pages}{parameters}")


def drive(node: str, image: Path) -> list[str]:
    return ["-blockdev", f"driver=file,node-name={node},filename={image}"]


def write_image(image: Path, data: bytes, mib: int) -> None:
    with open(image, "wb") as disk:
        disk.write(data)
        disk.truncate(mib << 20)


@dataclass(frozen=True)
class vfio_case:
    """A guest that does a task, and finds the data on its disk before and after it."""

    task: str
    checks: tuple[check, ...]
    devices: list[str]  # QEMU's words for the disk

    def __call__(self, lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
        image = folder / "disk"
        write_image(image, lab.data[: FEW_MIB << 20], DISK_MIB)
        machine = lab.machine_of(folder, where.kernel, MODULES)
        report = machine.boot(setup(self.task, [*drive("image", image), *self.devices], where,
                                    f"mib={FEW_MIB}"))
        return [judge_vfio.platform_is(report, where), judge_vfio.driver_returns(report, where),
                judge.data_is_equal(report, lab.digest(FEW_MIB), FEW_MIB, reads=2),
                *[check(report, where) for check in self.checks]]


def at(places: tuple[place, ...], case: lab_case, usual: tuple[place, ...]) -> list[lab_case]:
    """The case's rows of the table. @param usual  where it is done without --all, too"""
    return [replace(case, where=where, run=partial(case.run, where=where),
                    always=where in usual) for where in places]


CASES = (
    *at(PLATFORMS, lab_case("bed", "vfio", "the bed itself: vfio-pci has a disk for a while",
        vfio_case("bed", (judge_vfio.nodes_appear, judge_vfio.user_is_let_in,
                          judge_vfio.program_runs), ON_ROOT_BUS)), of(EXTREMES, "6.12")),
    *at(BEST, lab_case("plug", "vfio", "the bed itself: a disk goes away and comes back",
        vfio_case("plug", (judge_vfio.was_gone,), IN_SLOT)), ()),
)


def shell(lab: laboratory, folder: Path, where: place) -> None:
    """A prompt in a guest, on this terminal."""
    image = folder / "disk"
    write_image(image, lab.data[: FEW_MIB << 20], DISK_MIB)
    machine = lab.machine_of(folder, where.kernel, MODULES)
    machine.talk(setup("shell", [*drive("image", image), *ON_ROOT_BUS], where))
