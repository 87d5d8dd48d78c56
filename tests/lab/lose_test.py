#!/usr/bin/python3
"""Verdicts over guests in which our program loses its device: each is shown both ways."""

import json
import sys
import unittest

sys.dont_write_bytecode = True

import guest  # noqa: E402
import judge_lose  # noqa: E402
import lose_cases  # noqa: E402
import vfio_cases  # noqa: E402

GONE = "runnel: measure pci:0000:01:00.0?ns=2&via=group: device gone; why"
FAILED = "runnel: do randrw of pci:0000:01:00.0?ns=2&via=group: device status 0x7; 8 I/Os failed"
NOTE = "runnel: note: memory for devices: normal pages"


def report_of(*facts: str, told: str = GONE, **load: object) -> guest.boot_report:
    """What a guest reports after a loss that took 1 s, with some facts and figures changed."""
    usual = ("name_it 0000:01:00.0", "before 2000", "status_it 1", "at lost 5000",
             "at returned 5500", "at ended 6000", "at back 7000", "meanwhile 2500", "finally 3500")
    measured = {"ios": 2000, "errors": 8, "verify_mismatches": 0,
                "latency_ns": {"max": 900_000_000}} | load
    lines = [*usual, *facts, "begin load it", json.dumps(measured), "end load it",
             "begin errors it", NOTE, told, "end errors it"]
    return guest.parse_report("\n".join(line for line in lines if line))


class rows(unittest.TestCase):
    def test_every_loss_has_a_row_of_each_transport_and_the_lane_has_one_of_most(self) -> None:
        titles = {case.title: case for case in lose_cases.CASES}
        for name in ("kill", "unbind", "unplug", "aer", "aer-fatal", "flr", "hot-reset"):
            for place in ("own/group", "own/cdev", "6.12/group"):
                self.assertIn(f"{name}/{place}/48/remapping", titles)
        usual = {case.name for case in lose_cases.CASES if case.always}
        self.assertEqual(usual, {"kill", "unbind", "unplug", "aer", "flr"})


class lose_verdicts(unittest.TestCase):
    GROUP = next(where for where in vfio_cases.PLACES if where.kernel.name == "6.12")

    def expect(self, check: vfio_cases.check,
               *reports: tuple[bool, guest.boot_report]) -> None:
        for passed, report in reports:
            told = check(report, self.GROUP)
            self.assertEqual(told.passed, passed, (told.detail, report))

    def test_a_thousand_ios_must_have_been_done(self) -> None:
        self.expect(judge_lose.was_under_load, (True, report_of("before 1000")),
                    (False, report_of("before 999")))
        with self.assertRaises(ValueError):
            judge_lose.was_under_load(guest.boot_report(), self.GROUP)

    def test_our_program_must_end_in_time_and_before_the_kernel_has_the_disk(self) -> None:
        self.expect(judge_lose.ends_in_time,
                    (True, report_of()),
                    (True, report_of("at ended 5200")),
                    (True, report_of("at ended 25000", "at back 25000")),
                    (False, report_of("at ended 25010", "at back 26000")),
                    (False, report_of("at returned 25010", "at back 26000")),
                    (False, report_of("at ended 4990")),
                    (False, report_of("at ended 5000", "at returned 5000")),
                    (False, report_of("at back 5990")))
        self.assertEqual(judge_lose.ends_in_time(report_of(), self.GROUP).figures, {"ms": 1000})
        with self.assertRaises(LookupError):
            judge_lose.ends_in_time(guest.parse_report("at lost 1\nat ended 2\n"), self.GROUP)

    def test_io_must_go_on_with_no_more_failures_than_were_in_flight(self) -> None:
        self.expect(judge_lose.goes_on,
                    (True, report_of()),
                    (True, report_of("status_it 0", errors=0)),
                    (True, report_of(errors=16)),
                    (False, report_of(errors=17)),
                    (False, report_of("status_it 0")),
                    (False, report_of(errors=0)),
                    (False, report_of("finally 3499")),
                    (False, report_of("at ended 5400")),
                    (False, report_of(latency_ns={"max": 20_001_000_000})))
        self.assertEqual(judge_lose.goes_on(report_of(), self.GROUP).figures, {"ms": 900})

    def test_it_must_end_by_itself_and_say_in_one_line_that_its_device_is_gone(self) -> None:
        self.expect(judge_lose.says_gone,
                    (True, report_of()),
                    (False, report_of("status_it 0")),
                    (False, report_of("status_it 137")),
                    (False, report_of("name_it 0000:02:00.0")),
                    (False, report_of(told="")),
                    (False, report_of(told=FAILED)),
                    (False, report_of(told=f"{GONE}\n{GONE}")))

    def test_failed_ios_must_be_told_in_one_line(self) -> None:
        self.expect(judge_lose.says_what_failed,
                    (True, report_of(told=FAILED)),
                    (True, report_of(told="", errors=0)),
                    (False, report_of(told="")),
                    (False, report_of(told=FAILED, errors=0)),
                    (False, report_of(told=GONE)),
                    (False, report_of(told=f"{FAILED}\n{FAILED}")))

    def test_only_a_killed_program_ends_by_that(self) -> None:
        self.expect(judge_lose.was_killed, (True, report_of("status_it 137")), (False, report_of()))

    def test_nothing_else_may_be_read_than_was_written(self) -> None:
        self.expect(judge_lose.read_right, (True, report_of()), (False, report_of(ios=999)),
                    (False, report_of(verify_mismatches=1)))

    def test_it_may_go_on_or_end_but_must_do_it_well(self) -> None:
        line = "pci_nvme_mmio_start_success setting controller enable bit succeeded\n"
        for told, starts, passed in ((GONE, 4, True), (FAILED, 5, True), (GONE, 5, False),
                                     (FAILED, 4, False), (f"{GONE}\n{GONE}", 4, False)):
            report = report_of(told=told)
            report.trace = line * starts
            self.expect(judge_lose.mends_or_ends, (passed, report))
        self.assertEqual(judge_lose.mends_or_ends(report_of(), self.GROUP).figures, {"ms": 1000})

    def test_the_controller_must_be_enabled_as_often_as_it_changed_hands(self) -> None:
        line = "pci_nvme_mmio_start_success setting controller enable bit succeeded\n"
        for times, passed in ((3, False), (4, True), (5, False)):
            report = report_of()
            report.trace = line * times
            self.expect(judge_lose.was_started, (passed, report))


if __name__ == "__main__":
    unittest.main()
