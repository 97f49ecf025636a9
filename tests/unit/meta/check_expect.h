/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of check of a pool that nobody uses expect: exactly what was planted, and nothing else. */
#ifndef TESTS_UNIT_META_CHECK_EXPECT_H
#define TESTS_UNIT_META_CHECK_EXPECT_H

#include <criterion/criterion.h>

#include "tests/unit/meta/check_rig.h"

static inline void expect_only(enum meta_check_kind kind, uint64_t count)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(kind, count), "expected %d of %s and nothing else", (int)count,
		  meta_check_kind_to_text(kind));
	cr_expect_eq(rig_report.finding_count, count);
	for (uint64_t i = 0; i < rig_report.finding_count; i++)
		cr_expect_eq(rig_report.findings[i].kind, kind);
}

static inline void expect_nothing(void)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
}
#endif
