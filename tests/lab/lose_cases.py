"""Cases in which our program's device is taken from it, or disturbed, in the midst of I/O."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import judge
import judge_io
import judge_lose
import judge_vfio
from laboratory import DISK_MIB, lab_case, laboratory, place
from vfio_cases import (BEST, CONTROLLER, FEW_MIB, IN_SLOT, MODULES, OWN_CDEV, OWN_GROUP, at, check,
                        drive, setup, write_image)

SCRATCH_MIB = 1  # so that our program has soon filled it
# A port whose link can be reset: of QEMU's others the kernel waits in vain for a link.
RESETTABLE = [word.replace("slot=1", "slot=1,x-speed=2_5,hotplug=off") for word in IN_SLOT]
SCRATCH = ["-device", "nvme-ns,bus=disk,nsid=2,drive=scratch"]
# Two controllers as one device has them, behind such a port. The second has the other disk.
TWO_FUNCTIONS = ["-device", "pcie-root-port,id=root_port,slot=1,x-speed=2_5,hotplug=off",
                 "-device", f"{CONTROLLER},bus=root_port,addr=0.0,multifunction=on",
                 "-device", "nvme-ns,bus=disk,nsid=1,drive=image", *SCRATCH,
                 "-device", "nvme,id=other,serial=other,bus=root_port,addr=0.1",
                 "-device", "nvme-ns,bus=other,nsid=1,drive=other"]


@dataclass(frozen=True)
class lose_case:
    """Something happens to a controller whose second namespace our program uses."""

    event: str
    checks: tuple[check, ...]
    seconds: int = 60  # that our program would go on by itself
    devices: tuple[str, ...] = (*IN_SLOT, *SCRATCH)
    task: str = "lose"

    def __call__(self, lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
        image = folder / "disk"
        write_image(image, lab.data[: FEW_MIB << 20], DISK_MIB)
        disks = drive("image", image)
        for name in ("scratch", "other"):
            write_image(folder / name, b"", SCRATCH_MIB)
            disks += drive(name, folder / name)
        machine = lab.machine_of(folder, where.kernel, MODULES)
        report = machine.boot(setup(
            self.task, [*disks, *self.devices], where,
            f"mib={FEW_MIB} event={self.event} seconds={self.seconds}"))
        checks = (judge_vfio.platform_is, judge_vfio.driver_returns, judge_lose.was_under_load,
                  *self.checks, judge_io.nothing_is_pinned,
                  judge_io.calls_stay_on_lists)
        return [judge.data_is_equal(report, lab.digest(FEW_MIB), FEW_MIB, reads=2),
                *[check(report, where) for check in checks]]


GOES_ON_S = 10
EACH_GOES_ON = tuple(partial(check, name=name) for name in ("one", "two") for check in (
    judge_lose.goes_on, judge_lose.says_what_failed, judge_lose.read_right))
# Only later kernels reset what is below a port when they are asked to.
RESETTING = tuple(where for where in BEST if where.kernel.name not in ("5.10", "6.1"))

CASES = (
    *at(BEST, lab_case("kill", "vfio", "our program is killed while it uses the disk",
                       lose_case("kill", (judge_lose.ends_in_time, judge_lose.was_killed,
                                          judge_lose.was_started))), OWN_GROUP),
    *at(BEST, lab_case("unbind", "vfio", "the kernel wants the disk back from our program",
                       lose_case("unbind", judge_lose.ENDS)), OWN_CDEV),
    *at(BEST, lab_case("unplug", "vfio", "the disk is pulled out while our program uses it",
                       lose_case("unplug", (*judge_lose.ENDS, judge_vfio.was_gone))), OWN_CDEV),
    *at(BEST, lab_case("aer", "vfio", "an error of the PCI link while our program uses the disk",
                       lose_case("aer", judge_lose.GOES_ON, GOES_ON_S)), OWN_CDEV),
    *at(BEST, lab_case("aer-fatal", "vfio", "one for which the kernel resets what is behind it",
                       lose_case("aer-fatal", (judge_lose.mends_or_ends,), GOES_ON_S,
                                 (*RESETTABLE, *SCRATCH))), ()),
    *at(BEST, lab_case("flr", "vfio", "somebody resets the disk while our program uses it",
                       lose_case("flr", judge_lose.GOES_ON, GOES_ON_S)), OWN_GROUP),
    *at(RESETTING, lab_case("hot-reset", "vfio", "two functions are reset: our target has both",
                            lose_case("hot-reset",
                                      (*EACH_GOES_ON, partial(judge_lose.was_started, times=10)),
                                      seconds=30, devices=tuple(TWO_FUNCTIONS),
                                      task="hot_reset")), ()),
)
