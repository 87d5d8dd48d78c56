"""`runnel devices` on whatever machine this is: all that it has, and nothing else."""

import json
from pathlib import Path

import program

FOLDER = Path("/sys/bus/pci/devices")


class devices(program.program_case):
    def test_all_devices_of_the_machine_are_listed(self) -> None:
        there = sorted(path.name for path in FOLDER.iterdir()) if FOLDER.is_dir() else []
        told = json.loads(self.succeed("devices", "--json").out)
        self.assertEqual(told["pci"], FOLDER.is_dir())
        self.assertEqual([each["address"] for each in told["devices"]], there)
        for each in told["devices"]:
            says = (FOLDER / each["address"] / "vendor").read_text(encoding="ascii")
            self.assertEqual("0x" + each["vendor"], says.strip())
            self.assertIn(each["transport"], ("none", "group", "cdev", "noiommu"))
            self.assertTrue(each["why"])
        text = self.succeed("devices").out.decode()
        for name in there or ["there are no PCI devices"]:
            self.assertIn(name, text)
