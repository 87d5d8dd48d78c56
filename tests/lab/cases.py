"""The lab's cases: what each guest is given, and what must hold when it has left."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import conformance_cases
import doctor_cases
import guest
import io_cases
import judge
import lose_cases
import target
import vfio_cases
import way_cases
from laboratory import DATA_MIB, DISK_MIB, lab_case, laboratory

FEW_MIB = 16  # where the way of the bytes is as in another case


def case_control(lab: laboratory, folder: Path) -> list[judge.verdict]:
    disk = folder / "disk"
    disk.touch()
    with open(disk, "r+b") as image:
        image.truncate(DISK_MIB << 20)
    report = lab.machine(folder).boot(guest.guest_setup([
        "-drive", f"file={disk},if=none,id=disk,format=raw",
        "-device", "nvme,serial=lab,drive=disk"], f"mib={DATA_MIB}"))
    return [judge.data_is_equal(report, lab.digest(DATA_MIB), DATA_MIB), judge.msix_works(report)]


def case_memory(lab: laboratory, folder: Path) -> list[judge.verdict]:
    """Our program in a guest with two nodes, of which one has a page of 1 GiB."""
    report = lab.machine(folder).boot(guest.guest_setup(
        [], "task=memory hugepagesz=1G hugepages=1:1", memory=guest.node_memory("3G", "3G")))
    return [judge.memory_is(report, "giant", 1 << 30, {1: 1}),
            judge.memory_is(report, "normal", judge.PAGE_BYTES, {0: 0, 1: 1})]


@dataclass(frozen=True)
class target_case:
    """A guest on our targets, each with a disk, then our own driver on the same controllers."""

    checks: tuple[judge.check, ...]
    options: tuple[str, ...] = ("--poll", "busy", "--doorbells", "mapped")  # of the targets
    setup: guest.guest_setup = guest.guest_setup([])  # the targets' devices come last
    mib: int = FEW_MIB  # written to each disk
    disks: int = 1
    reads: int = 1  # times that the guest looks at each disk's data

    def __call__(self, lab: laboratory, folder: Path) -> list[judge.verdict]:
        sockets = [folder / f"socket{number}" for number in range(self.disks)]
        logs = [socket.with_name(f"{socket.name}.log") for socket in sockets]
        with ExitStack() as targets:
            for socket, log in zip(sockets, logs, strict=True):
                words = ["--namespace", f"ram:{DISK_MIB}M", *self.options]
                targets.enter_context(target.serve(lab.runnel, socket, words, log))
            report = lab.machine(folder).boot(self._with_devices(sockets))
            reads = self.disks * self.reads
            verdicts = [
                judge.data_is_equal(report, lab.digest(self.mib), self.mib, reads),
                *[judge.client_stayed(log.read_text()) for log in logs],
                *[check(report) for check in self.checks],
            ]
            for socket in sockets:
                verdicts += self._look_from_outside(lab, report, socket)
        return verdicts

    def _with_devices(self, sockets: list[Path]) -> guest.guest_setup:
        devices = [word for socket in sockets for word in guest.vfio_user_device(socket)]
        return replace(self.setup, devices=[*self.setup.devices, *devices],
                       parameters=f"{self.setup.parameters} mib={self.mib} disks={self.disks}")

    def _look_from_outside(self, lab: laboratory, report: guest.boot_report,
                           socket: Path) -> list[judge.verdict]:
        ours = target.identify(lab.runnel, socket)
        copied = socket.with_name("copied")
        target.copy_out(lab.runnel, socket, copied)
        number = judge.disk_number(report, ours)
        return [judge.identify_agrees(report, ours, number),
                judge.copy_is_equal(copied, lab.digest(self.mib), self.mib, first_mib=number)]


@dataclass(frozen=True)
class refused_case:
    """A guest whose memory our target cannot see: both sides are to say so."""

    memory: list[str]

    def __call__(self, lab: laboratory, folder: Path) -> list[judge.verdict]:
        socket, log = folder / "socket", folder / "target.log"
        with target.serve(lab.runnel, socket, ["--namespace", f"ram:{DISK_MIB}M"], log):
            report = lab.machine(folder).boot(guest.guest_setup(
                guest.vfio_user_device(socket), parameters="task=refuse", memory=self.memory))
        return [judge.controller_failed(report), judge.remedy_is_told(log.read_text())]


VIRTUAL_IOMMU = guest.guest_setup(["-device", "intel-iommu,caching-mode=on"], "intel_iommu=on")
TWELVE_CPUS = guest.guest_setup([], virtual_cpus=12)
REBOOT = guest.guest_setup([], "task=reboot", may_reboot=True)

CASES = (
    lab_case("control", "qemu", "QEMU's own controller: judges the lab", case_control),
    lab_case("memory", "qemu", "our perf in the guest: 1 GiB pages, memory near each core",
             case_memory),
    lab_case("vfio-user", "qemu", "our target: MSI-X and mapped doorbells",
             target_case((judge.msix_works, judge.doorbells_are_mapped), mib=DATA_MIB)),
    lab_case("vfio-user-trapped", "qemu", "our target: every doorbell as a message",
             target_case((judge.msix_works, judge.doorbells_are_trapped),
                         ("--poll", "busy", "--doorbells", "trapped"))),
    lab_case("vfio-user-shadow", "qemu", "our target: doorbells in the guest's memory",
             target_case((judge.msix_works, judge.doorbells_are_shadowed),
                         ("--poll", "busy", "--doorbells", "shadow"))),
    lab_case("vfio-user-intx", "qemu", "our target: one shared interrupt line, trapped doorbells",
             target_case((judge.intx_works, judge.doorbells_come_as_messages),
                         setup=guest.guest_setup([], "pci=nomsi"))),
    lab_case("vfio-user-queues", "qemu", "our target: 12 queues for 12 CPUs",
             target_case((partial(judge.msix_works, queues=12), judge.doorbells_are_mapped),
                         setup=TWELVE_CPUS)),
    lab_case("vfio-user-viommu", "qemu", "our target: memory mapped by pages, as it is used",
             target_case((judge.msix_works, judge.memory_comes_in_pages), setup=VIRTUAL_IOMMU)),
    lab_case("vfio-user-disks", "qemu", "our target twice: each disk with data of its own",
             target_case((partial(judge.msix_works, disks=2),), disks=2)),
    lab_case("vfio-user-reboot", "qemu", "our target: data outlives the guest's reboot",
             target_case((judge.msix_works, judge.booted_twice), setup=REBOOT, reads=2)),
    lab_case("vfio-user-private", "qemu", "our target: memory with share=off is refused",
             refused_case(guest.PRIVATE)),
    lab_case("vfio-user-anonymous", "qemu", "our target: memory that is no file is refused",
             refused_case(guest.ANONYMOUS)),
    *vfio_cases.CASES,
    *io_cases.CASES,
    *conformance_cases.CASES,
    *way_cases.CASES,
    *lose_cases.CASES,
    *doctor_cases.CASES,
)
