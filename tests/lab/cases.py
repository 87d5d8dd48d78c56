"""The lab's cases: what each guest is given, and what must hold when it has left."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import debian
import guest
import initramfs
import judge
import target

INIT = Path(__file__).with_name("guest_init.sh")
DATA_MIB = 64
DISK_MIB = 128
SEED = 1


class laboratory:
    """What the cases share. It is made when a case first asks for it."""

    def __init__(self, runnel: Path, cache: Path) -> None:
        self._runnel = runnel
        self._cache = cache

    @cached_property
    def runnel(self) -> Path:
        if not self._runnel.is_file():
            raise debian.lab_error(f"no {self._runnel}; run ./dev build")
        return self._runnel

    @cached_property
    def emulator_tree(self) -> Path:
        return debian.ensure(debian.EMULATOR, self._cache)

    @cached_property
    def guest_tree(self) -> Path:
        return debian.ensure(debian.GUEST, self._cache)

    @cached_property
    def data(self) -> bytes:
        return random.Random(SEED).randbytes(DATA_MIB << 20)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def initramfs(self) -> bytes:
        return initramfs.build(self.guest_tree, INIT, self.data)

    def machine(self, folder: Path) -> guest.virtual_machine:
        image = folder / "initramfs"
        image.write_bytes(self.initramfs)
        kernel = next((self.guest_tree / "boot").glob("vmlinuz-*"))
        return guest.virtual_machine(self.emulator_tree, kernel, image, folder)


@dataclass(frozen=True)
class lab_case:
    name: str
    lane: str
    goal: str
    # Gets a folder of its own for sockets, images and logs, which is kept if the case fails.
    run: Callable[[laboratory, Path], list[judge.verdict]]


def case_control(lab: laboratory, folder: Path) -> list[judge.verdict]:
    disk = folder / "disk"
    disk.touch()
    with open(disk, "r+b") as image:
        image.truncate(DISK_MIB << 20)
    device = ["-drive", f"file={disk},if=none,id=disk,format=raw",
              "-device", "nvme,serial=lab,drive=disk"]
    report = lab.machine(folder).boot(device)
    return [judge.data_is_equal(report, lab.digest, DATA_MIB), judge.msix_works(report)]


def _on_target(lab: laboratory, folder: Path, checks: list[judge.check],
               options: tuple[str, ...] = (),
               parameters: str = "") -> list[judge.verdict]:
    """A guest on our target, then our own driver on the same controller."""
    socket = folder / "socket"
    disk = ["--namespace", f"ram:{DISK_MIB}M"]
    with target.serve(lab.runnel, socket, [*disk, *options], folder / "target.log"):
        report = lab.machine(folder).boot(guest.vfio_user_device(socket), parameters)
        ours = target.identify(lab.runnel, socket)
        copied = folder / "copied"
        target.copy_out(lab.runnel, socket, copied)
    return [
        judge.data_is_equal(report, lab.digest, DATA_MIB),
        *[check(report) for check in checks],
        judge.identify_agrees(report, ours),
        judge.copy_is_equal(copied, lab.digest, DATA_MIB),
    ]


def case_vfio_user(lab: laboratory, folder: Path) -> list[judge.verdict]:
    return _on_target(lab, folder, [judge.msix_works, judge.doorbells_are_mapped])


def case_vfio_user_trapped(lab: laboratory, folder: Path) -> list[judge.verdict]:
    return _on_target(lab, folder, [judge.msix_works, judge.doorbells_are_trapped],
                      options=("--doorbells", "trapped"))


def case_vfio_user_intx(lab: laboratory, folder: Path) -> list[judge.verdict]:
    return _on_target(lab, folder, [judge.intx_works, judge.doorbells_are_trapped],
                      parameters="pci=nomsi")


CASES = (
    lab_case("control", "qemu", "QEMU's own controller: judges the lab", case_control),
    lab_case("vfio-user", "qemu", "our target: MSI-X and mapped doorbells", case_vfio_user),
    lab_case("vfio-user-trapped", "qemu", "our target: MSI-X, doorbells as messages",
             case_vfio_user_trapped),
    lab_case("vfio-user-intx", "qemu", "our target: one shared interrupt line, trapped doorbells",
             case_vfio_user_intx),
)
