#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the race: a wrong ratio would be believed."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from race import fio, figures, report  # noqa: E402


class Figures(unittest.TestCase):
    def test_median_and_spread_are_of_all_rounds(self):
        figure = figures.Figure([100, 90, 130, 110, 95])
        self.assertEqual(figure.median, 100)
        self.assertAlmostEqual(figure.spread, 0.4)

    def test_ratio_is_of_medians(self):
        self.assertAlmostEqual(figures.ratio(figures.Figure([8, 9, 10]), figures.Figure([10, 12, 11]), 0.5), 9 / 11)

    def test_ratio_is_refused_when_either_side_spreads_too_wide(self):
        narrow, wide = figures.Figure([10, 10, 11]), figures.Figure([5, 10, 11])
        self.assertEqual(figures.ratio(narrow, wide, 0.5), figures.REFUSED_SPREAD)
        self.assertEqual(figures.ratio(wide, narrow, 0.5), figures.REFUSED_SPREAD)

    def test_ratio_at_the_limit_is_given(self):
        self.assertIsInstance(figures.ratio(figures.Figure([10, 10, 15]), figures.Figure([10, 10, 10]), 0.5), float)

    def test_ratio_is_refused_with_too_few_rounds(self):
        self.assertEqual(figures.ratio(figures.Figure([1, 1]), figures.Figure([1, 1, 1]), 0.5), figures.REFUSED_ROUNDS)

    def test_no_samples_is_no_figure(self):
        self.assertRaises(ValueError, figures.Figure, [])


class Parsing(unittest.TestCase):
    JOB = {"error": 0, "usr_cpu": 20.0, "sys_cpu": 30.0, "job_runtime": 2000,
           "read": {"total_ios": 4000, "iops": 2000.0, "bw_bytes": 8192000,
                    "lat_ns": {"percentile": {"50.000000": 1000, "99.000000": 2000, "99.900000": 5000}}}}

    def test_sample_takes_the_figures_of_the_direction_that_ran(self):
        workload = fio.workload("4k-randread-d1")
        sample = fio.sample_of_job(self.JOB, workload, server_cpu_s=2.0, machine_cpu_s=4.0)
        self.assertEqual(sample["ops"], 4000)
        self.assertEqual(sample["iops"], 2000.0)
        self.assertEqual(sample["p99_9_us"], 5.0)
        self.assertAlmostEqual(sample["server_cpu_s_per_mop"], 500.0)
        self.assertAlmostEqual(sample["client_cpu_s_per_mop"], 250.0)

    def test_a_job_with_an_error_is_no_sample(self):
        bad = dict(self.JOB, error=5)
        self.assertRaises(fio.FioError, fio.sample_of_job, bad, fio.workload("4k-randread-d1"), 0.0, 0.0)

    def test_a_job_that_did_nothing_is_no_sample(self):
        self.assertRaises(fio.FioError, fio.sample_of_job, dict(self.JOB, read={"total_ios": 0}),
                          fio.workload("4k-randread-d1"), 0.0, 0.0)

    def test_a_path_without_a_server_has_no_server_cost(self):
        sample = fio.sample_of_job(self.JOB, fio.workload("4k-randread-d1"), None, 4.0)
        self.assertIsNone(sample["server_cpu_s_per_mop"])


class Table(unittest.TestCase):
    def test_a_refused_ratio_prints_its_reason_and_no_number(self):
        self.assertEqual(report.ratio_text(figures.REFUSED_SPREAD), "spread")
        self.assertEqual(report.ratio_text(0.8349), "0.83")
        self.assertEqual(report.ratio_text(None), "-")


if __name__ == "__main__":
    unittest.main()
