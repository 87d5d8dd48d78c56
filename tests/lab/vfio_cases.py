"""Cases in which the guest's kernel gives QEMU's devices to programs, behind an IOMMU.

Each is a task in `guest/`, done on every kernel through every transport that it has.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import guest
import judge
import judge_vfio
import kernels
from laboratory import DISK_MIB, lab_case, laboratory, place

MODULES = ["nvme", "vfio-pci", "vfio_iommu_type1"]
FEW_MIB = 16
CONTROLLER = "nvme,id=disk,serial=lab,drive=image"
ON_ROOT_BUS = ["-device", f"{CONTROLLER},addr=4"]
IN_SLOT = ["-device", "pcie-root-port,id=root_port,slot=1",
           "-device", f"{CONTROLLER},bus=root_port"]

PLACES = tuple(place(kernel, transport, bits, remapping)
               for kernel in kernels.KERNELS for transport in kernel.transports
               for bits in (39, 48) for remapping in (False, True))
BEST_PLACES = tuple(where for where in PLACES
                    if where.address_bits == 48 and where.remapping and where.transport == "group")

check = Callable[[guest.boot_report, place], judge.verdict]


def setup(task: str, devices: list[str], image: Path, where: place) -> guest.guest_setup:
    """A guest for a task, with a disk whose content is in `image`."""
    remapping = "on" if where.remapping else "off"
    return guest.guest_setup(
        ["-device", f"intel-iommu,intremap={remapping},aw-bits={where.address_bits}",
         "-blockdev", f"driver=file,node-name=image,filename={image}", *devices],
        f"intel_iommu=on iommu=nopt task={task} transport={where.transport} "
        f"remapping={remapping} mib={FEW_MIB}")


def write_image(lab: laboratory, image: Path) -> None:
    with open(image, "wb") as disk:
        disk.write(lab.data[: FEW_MIB << 20])
        disk.truncate(DISK_MIB << 20)


@dataclass(frozen=True)
class vfio_case:
    """A guest that does a task, and finds the data on its disk before and after it."""

    task: str
    checks: tuple[check, ...]
    devices: list[str]  # QEMU's words for the disk

    def __call__(self, lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
        image = folder / "disk"
        write_image(lab, image)
        machine = lab.machine_of(folder, where.kernel, MODULES)
        report = machine.boot(setup(self.task, self.devices, image, where))
        return [judge_vfio.platform_is(report, where), judge_vfio.driver_returns(report, where),
                judge.data_is_equal(report, lab.digest(FEW_MIB), FEW_MIB, reads=2),
                *[check(report, where) for check in self.checks]]


def at(places: tuple[place, ...], case: lab_case) -> list[lab_case]:
    """The case's rows of the table."""
    return [replace(case, where=where, run=partial(case.run, where=where)) for where in places]


CASES = (
    *at(PLACES, lab_case("bed", "vfio", "the bed itself: vfio-pci takes a disk and gives it back",
        vfio_case("bed", (judge_vfio.nodes_appear, judge_vfio.user_is_let_in,
                          judge_vfio.program_runs), ON_ROOT_BUS))),
    *at(BEST_PLACES, lab_case("plug", "vfio", "the bed itself: a disk goes away and comes back",
        vfio_case("plug", (judge_vfio.was_gone,), IN_SLOT))),
)


def shell(lab: laboratory, folder: Path, where: place) -> None:
    """A prompt in a guest, on this terminal."""
    image = folder / "disk"
    write_image(lab, image)
    machine = lab.machine_of(folder, where.kernel, MODULES)
    machine.talk(setup("shell", ON_ROOT_BUS, image, where))
