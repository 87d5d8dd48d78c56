"""Cases about the ways to devices of the machine: those that are refused, and what others cost."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import guest
import io_cases
import judge
import judge_io
import judge_vfio
import judge_way
import kernels
from laboratory import lab_case, laboratory, place
from vfio_cases import (BEST, DEBIAN, EXTREMES, MODULES, ON_ROOT_BUS, OWN_CDEV, at, check, drive,
                        of, setup, write_image)

MIB = 16
DISK = "0000:00:04.0"
ALONE = "0000:00:05.0"
NIC = ("-netdev", "hubport,id=net,hubid=0", "-device", "e1000e,netdev=net,addr=5")
NIC_IDS = "8086:10d3"
# Two functions of a slot cannot be told apart by an IOMMU.
TOGETHER_AND_ALONE = ("addr=4.0,multifunction=on", "addr=4.1", "addr=5")


@dataclass(frozen=True)
class way_case:
    """A guest that does a task with disks, behind Intel's IOMMU."""

    task: str
    checks: tuple[check, ...]
    disks: tuple[str, ...] = ("addr=4",)  # QEMU's words for where each is
    others: tuple[str, ...] = ()  # QEMU's words for other devices
    modules: tuple[str, ...] = ()  # for those
    virtual_cpus: int = 2

    def __call__(self, lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
        words = [*self.others]
        for number, address in enumerate(self.disks):
            image = folder / f"disk{number}"
            write_image(image, b"", MIB)
            words += [*drive(f"image{number}", image),
                      "-device", f"nvme,serial=lab{number},drive=image{number},{address}"]
        machine = lab.machine_of(folder, where.kernel, [*MODULES, *self.modules])
        asked = setup(self.task, words, where, f"mib={MIB}")
        report = machine.boot(replace(asked, virtual_cpus=self.virtual_cpus))
        return [judge_vfio.platform_is(report, where),
                *[check(report, where) for check in self.checks]]


def case_range(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    """Only virtio's IOMMU can be made too narrow for us: others translate 39 bits or more."""
    image = folder / "disk"
    write_image(image, b"", MIB)
    machine = lab.machine_of(folder, where.kernel, ["virtio-iommu", *MODULES])
    report = machine.boot(guest.guest_setup(
        ["-device", f"virtio-iommu-pci,aw-bits={where.address_bits}", *drive("image", image),
         *ON_ROOT_BUS], f"task=refuse-range transport={where.transport} remapping=off"))
    return [refused(report, where) for refused in refuses(
        ("range", DISK, "0x0-0xfedfffff", "a machine with a wider IOMMU"))]


def case_unguarded(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    """The page of 1 GiB lies above 4 GiB: below, the initramfs is in the way."""
    image = folder / "disk"
    write_image(image, b"", MIB)
    machine = lab.machine_of(folder, where.kernel, MODULES, lab.data[: MIB << 20])
    report = machine.boot(guest.guest_setup(
        [*drive("image", image), *ON_ROOT_BUS],
        f"task=unguarded transport={where.transport} mib={MIB} hugepagesz=1G hugepages=1",
        memory=guest.one_memory("memory-backend-ram", "4G")))
    refusals = refuses(("switch", DISK, "intel_iommu=on", "enable_unsafe_noiommu_mode"),
                       ("unasked", DISK, "only when asked for, by via=noiommu"),
                       ("pages", DISK, "`sysctl vm.nr_hugepages`"))
    return [judge_way.nothing_guards(report, where), judge_vfio.driver_returns(report, where),
            judge.data_is_equal(report, lab.digest(MIB), MIB),
            judge_io.calls_stay_on_lists(report, where),
            *[refused(report, where) for refused in refusals]]


def refuses(*refusals: tuple[str, ...]) -> tuple[check, ...]:
    """A check for each refusal: its name, and the words for its object and its remedy."""
    return tuple(partial(judge_way.is_refused, wanted=judge_way.refusal(words[0], words[1:]))
                 for words in refusals)


IN_USE: tuple[check, ...] = (
    *refuses(("mounted", DISK, "nvme0n1 is mounted at /tmp/mounted; `umount /tmp/mounted`"),
             ("swap", DISK, "nvme0n1 is swapped to; `swapoff /dev/nvme0n1`"),
             ("routed", ALONE, "eth0 has an address or a route; `ip address flush dev eth0`")),
    partial(judge_way.binding_is_true, ids=NIC_IDS, driver="e1000e"))
CLOSED: tuple[check, ...] = (
    *refuses(("unbound", ALONE, "it is bound to nvme; `runnel bind 0000:00:05.0`"),
             ("group", DISK, "0000:00:04.1 is bound to nvme; `runnel bind 0000:00:04.1`"),
             ("closed", ALONE, "`sudo chown $USER /dev/"),
             ("memlock", ALONE, "raise the limit to 65536 KiB", "`ulimit -l`")),
    partial(judge_way.remedy_is_noted, words=(DISK, "`runnel bind 0000:00:04.1`")))

OWN = next(kernel for kernel in kernels.KERNELS if kernel.name == "own")
NARROW = (replace(DEBIAN[0], address_bits=32, remapping=False),)
UNGUARDED = (place(OWN, "noiommu", 0, remapping=False, huge_pages=True),)
COMPAT = tuple(place(OWN, "compat", bits, remapping, huge)
               for bits, remapping, huge in ((39, False, False), (48, True, True)))

CASES = (
    *at(DEBIAN, lab_case("refuse-bind", "vfio", "bind takes nothing that is in use",
        way_case("refuse-bind", IN_USE, others=NIC,
                 modules=("crc32c_generic", "ext4", "e1000e"))), DEBIAN),
    *at(BEST, lab_case("refuse-open", "vfio", "each reason not to open a device, and its remedy",
                       way_case("refuse-open", CLOSED, TOGETHER_AND_ALONE)),
        (*OWN_CDEV, *DEBIAN)),
    *at(NARROW, lab_case("refuse-range", "vfio", "an IOMMU that reaches less than our memory",
                         case_range), NARROW),
    *at(BEST, lab_case("idle", "vfio", "our program sleeps until an interrupt wakes it",
                       way_case("idle", (judge_vfio.driver_returns, judge_way.sleeps,
                                         judge_io.calls_stay_on_lists))), OWN_CDEV),
    *at(of(EXTREMES, "6.12"), lab_case("vectors", "vfio", "a vector for each queue, and no other",
        way_case("vectors", (judge_vfio.driver_returns, judge_way.vectors_grow),
                 virtual_cpus=len(judge_way.CORES))), ()),
    *at(BEST, lab_case("four", "vfio", "four devices come up in the time of one",
        way_case("four", (judge_way.four_come_up_together,),
                 ("addr=4", "addr=5", "addr=6", "addr=7"))), ()),
    *at(UNGUARDED, lab_case("unguarded", "vfio", "our program on a disk without an IOMMU",
                            case_unguarded), ()),
    *at(COMPAT, lab_case("io", "vfio", "our program on the disk, a group in an iommufd",
                         io_cases.case_io), ()),
)
