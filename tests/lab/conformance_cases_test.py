#!/usr/bin/python3
"""The verdict over the conformance suite in a guest, shown both ways."""

import sys
import unittest

sys.dont_write_bytecode = True

import conformance_cases  # noqa: E402
import guest  # noqa: E402


class conformance_verdict(unittest.TestCase):
    OWN = next(where for where in conformance_cases.PLACES if where.kernel.name == "own")

    def verdict_of(self, said: str, status: int = 0, sample: str = "sample 7\n") -> bool:
        report = guest.parse_report(
            f"{sample}status {status}\nbegin conformance\n{said}\nend conformance\n")
        return conformance_cases.suite_passed(report, self.OWN).passed

    def test_every_way_must_have_been_asked_and_no_case_may_have_failed(self) -> None:
        ways = "EFAULT real_group EFAULT\nEFAULT real_cdev -\nEFAULT real_compat -\n"
        good = f"{ways}[  PASSED  ] 48 tests."
        self.assertTrue(self.verdict_of(good))
        self.assertFalse(self.verdict_of(good, sample=""))
        for said, status in ((good, 1), (ways, 0), (good.replace("real_cdev", ""), 0),
                             (good.replace("48", "44"), 0), (f"[  FAILED  ] x\n{good}", 0)):
            self.assertFalse(self.verdict_of(said, status))

    def test_iommufd_is_asked_as_a_container_where_it_is(self) -> None:
        self.assertEqual(conformance_cases.ways_of(self.OWN.kernel), ("group", "cdev", "compat"))
        groups = next(where for where in conformance_cases.PLACES if where.kernel.name == "6.12")
        self.assertEqual(conformance_cases.ways_of(groups.kernel), ("group",))


if __name__ == "__main__":
    unittest.main()
