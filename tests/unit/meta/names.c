/* SPDX-License-Identifier: Apache-2.0 */
/* The list of disks is complete and in order, whatever came, went or was renamed between two questions. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/meta/check_rig.h"
#include "tests/unit/random.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_names, .init = setup, .fini = rig_remove_dir, .timeout = 60);

#define NAMES 60
#define STEPS 600

static void name_of(unsigned i, char ret[16])
{
	snprintf(ret, 16, "n%u", i * 7919 % 1000); /* in no order */
}

static void expect_list(struct meta_pool *pool, const bool *there)
{
	char after[NAME_BYTES_MAX + 1] = "", name[16];
	struct meta_disk_info info;
	unsigned seen = 0, expected = 3; /* the rig's own */
	struct meta_disk *disk;

	for (unsigned i = 0; i < NAMES; i++)
		expected += there[i];
	while ((disk = meta_disk_next(pool, after))) {
		meta_disk_info(disk, &info);
		meta_disk_put(disk);
		cr_assert_gt(strcmp(info.record.name, after), 0, "%s after %s", info.record.name, after);
		strcpy(after, info.record.name);
		seen++;
	}
	cr_assert_eq(seen, expected);
	for (unsigned i = 0; i < NAMES; i++) {
		name_of(i, name);
		disk = meta_disk_get_by_name(pool, name);
		cr_assert_eq(disk != NULL, there[i], "%s", name);
		if (disk)
			meta_disk_put(disk);
	}
}

static void change(struct meta_pool *pool, bool *there, unsigned i, unsigned k)
{
	char name[16], other[16];

	name_of(i, name);
	name_of(k, other);
	if (!there[i]) {
		rig_create(pool, name, MIB);
		there[i] = true;
		return;
	}
	struct meta_disk *disk = meta_disk_get_by_name(pool, name);
	if (there[k])
		cr_assert_eq(meta_disk_remove(disk, &rig_error), 0, "%s", rig_error.text);
	else
		cr_assert_eq(meta_disk_rename(disk, other, &rig_error), 0, "%s", rig_error.text);
	there[k] |= !there[k] && i != k;
	there[i] = false;
	meta_disk_put(disk);
}

Test(meta_names, the_list_is_complete_and_in_order_after_each_change)
{
	struct meta_pool *pool = rig_open(false);
	uint64_t seed = test_seed(), random = seed;
	bool there[NAMES] = { false };

	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)test_random_below(&random, NAMES);
		change(pool, there, i, (unsigned)test_random_below(&random, NAMES));
		if (test_random_below(&random, 3) == 0)
			expect_list(pool, there);
		if (step % 50 == 0)
			bg_step(pool, base_clock_ns());
	}
	rig_close(pool);
}
