/* SPDX-License-Identifier: Apache-2.0 */
/* Mount options: what each word does, and that an unknown one is refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "cmd/mount_options.h"

static struct cmd_mount_options parse(const char *text)
{
	struct cmd_mount_options options = { 0 };
	struct base_error err = { 0 };

	cr_assert_eq(cmd_mount_options_parse(text, false, &options, &err), 0, "%s: %s", text, err.text);
	return options;
}

Test(cmd_mount_options, ours_are_understood)
{
	struct cmd_mount_options o = parse("ro,allow_other,engine=threads,queues=4");

	cr_assert(o.read_only);
	cr_assert(o.allow_other);
	cr_assert_str_eq(o.engine, "threads");
	cr_assert_eq(o.queues, 4);
	cr_assert_str_eq(o.kernel, "");
}

Test(cmd_mount_options, a_cache_has_a_size_in_bounds)
{
	static const char *const wrong[] = { "cache=", "cache=0", "cache=1023K", "cache=2T", "cache=+8M", "cache=x" };
	struct cmd_mount_options options = { 0 };
	struct base_error err = { 0 };

	cr_expect_eq(parse("cache=256M").cache_bytes, 256 * MIB);
	cr_expect_eq(parse("cache=7,ro").cache_bytes, 7 * MIB);
	cr_expect_eq(parse("ro").cache_bytes, 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		cr_expect_eq(cmd_mount_options_parse(wrong[i], false, &options, &err), -EINVAL, "%s", wrong[i]);
}

Test(cmd_mount_options, the_kernel_gets_its_own_in_order)
{
	cr_assert_str_eq(parse("noexec,ro,nodev,defaults,dev").kernel, "noexec,nodev,dev");
}

Test(cmd_mount_options, words_of_fstab_mean_nothing_here)
{
	struct cmd_mount_options o =
		parse("defaults,_netdev,nofail,auto,noauto,user,users,x-systemd.automount,comment=a");

	cr_assert_str_eq(o.kernel, "");
	cr_assert_not(o.read_only);
}

Test(cmd_mount_options, the_later_word_wins)
{
	cr_assert_not(parse("ro,rw").read_only);
	cr_assert(parse("rw,ro").read_only);
	cr_assert_eq(parse("queues=1,queues=2").queues, 2);
}

Test(cmd_mount_options, empty_words_are_passed_over)
{
	cr_assert(parse(",,ro,").read_only);
	cr_assert_not(parse("").read_only);
}

Test(cmd_mount_options, faults_are_an_engine_of_rules_over_another)
{
	struct cmd_mount_options options = parse("engine=fault:error=EIO:op=read,ro");

	cr_expect_str_eq(options.engine, "");
	cr_expect_str_eq(options.faults, "error=EIO:op=read");
	cr_expect(options.read_only);
	options = parse("engine=fault+threads:/a/b");
	cr_expect_str_eq(options.engine, "threads");
	cr_expect_str_eq(options.faults, "/a/b");
	options = parse("engine=fault:torn,engine=uring");
	cr_expect_str_eq(options.faults, "", "the later word wins whole");
}

Test(cmd_mount_options, unknown_and_impossible_words_are_refused_by_name)
{
	static const char *const texts[] = {
		"hello",    "remount",   "bind",       "RO",        "queues=0", "queues=33",
		"queues=x", "queues=-1", "queues=",    "queues=1x", "engine=",  "engine=a-name-that-is-too-long",
		"engine=fault:", "fsname=x", "subtype=x", "max_read=1", "ro ",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct cmd_mount_options options = { 0 };
		struct base_error err = { 0 };

		cr_assert_eq(cmd_mount_options_parse(texts[i], false, &options, &err), -EINVAL, "%s", texts[i]);
		cr_assert_not_null(strstr(err.text, texts[i]), "%s", err.text);
	}
}

Test(cmd_mount_options, sloppy_passes_over_unknown_words_only)
{
	struct cmd_mount_options options = { 0 };

	cr_assert_eq(cmd_mount_options_parse("hello,ro", true, &options, NULL), 0);
	cr_assert(options.read_only);
	cr_assert_eq(cmd_mount_options_parse("queues=0", true, &options, NULL), -EINVAL);
}

Test(cmd_mount_options, too_many_words_are_refused_not_cut)
{
	struct cmd_mount_options options = { 0 };
	char text[1024] = "";

	for (int i = 0; i < 60; i++)
		strcat(text, "noexec,");
	cr_assert_eq(cmd_mount_options_parse(text, false, &options, NULL), -EINVAL);
}
