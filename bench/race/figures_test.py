#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the race: a wrong ratio would be believed."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from race import aims, backings, fio, figures, paths, peers, plot, report  # noqa: E402


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


    SYNC = dict(JOB, write={"total_ios": 100, "iops": 50.0, "bw_bytes": 409600},
                sync={"lat_ns": {"percentile": {"50.000000": 7000, "99.000000": 8000, "99.900000": 9000}}})

    def test_a_flush_is_what_the_latency_of_a_synced_write_is_of(self):
        sample = fio.sample_of_job(self.SYNC, fio.workload("4k-writesync-d1"), 0.0, 0.0)
        self.assertEqual((sample["ops"], sample["p50_us"]), (100, 7.0))

    def test_a_mix_counts_both_sides(self):
        job = dict(self.SYNC, read=self.JOB["read"])
        sample = fio.sample_of_job(job, fio.workload("4k-mixed-d32"), 0.0, 0.0)
        self.assertEqual((sample["ops"], sample["iops"]), (4100, 2050.0))


class Loads(unittest.TestCase):
    @staticmethod
    def words(load, **of_path):
        path = paths.Path()
        path.targets = ["a"]
        vars(path).update(of_path)
        return fio.command(path, 1 << 30, fio.workload(load), 100)

    def test_no_path_that_must_not_be_written_takes_a_load_that_writes(self):
        path = paths.Existing("raw", "/dev/null", writable=False)
        self.assertEqual({side for load in fio.WORKLOADS if path.accepts(load) for side in load.sides}, {"read"})

    def test_the_depth_is_of_all_jobs_and_targets_together(self):
        self.assertIn("--iodepth=8", self.words("4k-randread-d32-j4"))
        self.assertIn("--iodepth=4", self.words("4k-randread-d32", targets=list("abcdefgh")))
        self.assertIn("--numjobs=16", self.words("4k-writesync-d16"))

    def test_what_is_used_up_is_touched_once(self):
        self.assertNotIn("--norandommap=1", self.words("4k-randwrite-d1", once=True))
        self.assertNotIn("--time_based=1", self.words("4k-randwrite-d1", once=True))
        self.assertIn("--time_based=1", self.words("4k-randwrite-d1"))


class Aims(unittest.TestCase):
    @staticmethod
    def rows(**iops):
        return {"null": {"4k-randread-d1": {name: [{"iops": value} for value in values]
                                            for name, values in iops.items()}}}

    def verdicts(self, **iops):
        return {aim["against"]: aim["verdict"] for aim in aims.judge(self.rows(**iops), 0.5)}

    def test_an_aim_is_reached_at_its_ratio_and_missed_below(self):
        reached = self.verdicts(bdfs=[90, 90, 90], **{"floor-uring": [100, 100, 100]})
        missed = self.verdicts(bdfs=[89, 89, 89], **{"floor-uring": [100, 100, 100]})
        self.assertEqual((reached["floor-uring"], missed["floor-uring"]), ("reached", "missed"))

    def test_a_refused_ratio_neither_reaches_nor_misses(self):
        self.assertEqual(self.verdicts(bdfs=[10, 90, 200], qsd=[1, 1, 1]), {"qsd": figures.REFUSED_SPREAD})

    def test_a_side_that_did_not_run_is_no_verdict(self):
        self.assertEqual(self.verdicts(bdfs=[1, 1, 1]), {})

    def test_every_aim_is_of_paths_and_loads_that_there_are(self):
        names = {load.name for load in fio.WORKLOADS}
        for aim in aims.table():
            self.assertIn(aim.workload, names)
            self.assertLessEqual({aim.path, aim.against}, set(backings.PATH_NAMES[aim.backing]))

    def test_the_version_of_the_peer_picks_its_aim(self):
        self.assertEqual(peers.qsd_major("qemu-storage-daemon version 11.1.0 (Debian)"), 11)
        self.assertNotEqual(aims.table(11), aims.table(10))


class Table(unittest.TestCase):
    def test_a_path_is_never_divided_by_itself_or_by_what_is_no_path(self):
        all_paths = {path for names in backings.PATH_NAMES.values() for path in names}
        for path in all_paths:
            for column in backings.REFERENCES:
                other = backings.reference(path, column)
                self.assertTrue(other is None or (other in all_paths and other != path), (path, column))

    def test_a_fresh_disk_is_compared_with_a_fresh_file_and_with_itself_when_written(self):
        self.assertEqual(backings.reference("bdfs-fresh", "raw"), "raw-fresh")
        self.assertEqual(backings.reference("bdfs-fresh", "steady"), "bdfs")

    def test_the_picture_has_a_bar_for_each_path_with_its_range(self):
        results = {"null": {"4k-randread-d1": {"bdfs": [{"iops": n, "bytes_per_s": 0} for n in (1000, 3000, 2000)]}}}
        lines = list(plot.script(results, "a'b.svg"))
        self.assertIn('"bdfs" 2.0000 1.0000 3.0000', lines)
        self.assertIn("set output 'a''b.svg'", lines)

    def test_a_refused_ratio_prints_its_reason_and_no_number(self):
        self.assertEqual(report.ratio_text(figures.REFUSED_SPREAD), "spread")
        self.assertEqual(report.ratio_text(0.8349), "0.83")
        self.assertEqual(report.ratio_text(None), "-")


if __name__ == "__main__":
    unittest.main()
