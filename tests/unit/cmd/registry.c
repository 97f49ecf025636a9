/* SPDX-License-Identifier: Apache-2.0 */
/* The registry of pools, in a state directory of the test's own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/registry.h"

static char state[] = "/tmp/bdfs-registry-XXXXXX";

static void begin(void)
{
	cr_assert_not_null(mkdtemp(state));
	setenv("BDFS_STATE_DIR", state, 1);
}

static void end(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", state);
	cr_assert_eq(system(command), 0);
}

TestSuite(cmd_registry, .init = begin, .fini = end);

static struct cmd_pool_ref ref;
static struct base_error err;

Test(cmd_registry, empty_has_no_default_and_says_what_to_do)
{
	cr_assert_eq(cmd_registry_find(NULL, &ref, &err), -ENOENT);
	cr_assert_not_null(strstr(err.text, "bdfs mksp"));
}

Test(cmd_registry, a_pool_is_found_by_name)
{
	cr_assert_eq(cmd_registry_add("vms", "/srv/pools/vms", &err), 0);
	cr_assert_eq(cmd_registry_find("vms", &ref, &err), 0);
	cr_assert_str_eq(ref.name, "vms");
	cr_assert_str_eq(ref.directory, "/srv/pools/vms");
	cr_assert(ref.registered);
}

Test(cmd_registry, an_unknown_name_is_not_found)
{
	cr_assert_eq(cmd_registry_find("vms", &ref, &err), -ENOENT);
	cr_assert_not_null(strstr(err.text, "vms"));
}

Test(cmd_registry, a_taken_name_is_refused_and_its_directory_named)
{
	cr_assert_eq(cmd_registry_add("vms", "/one", &err), 0);
	cr_assert_eq(cmd_registry_add("vms", "/two", &err), -EEXIST);
	cr_assert_not_null(strstr(err.text, "/one"));
	cr_assert_eq(cmd_registry_find("vms", &ref, &err), 0);
	cr_assert_str_eq(ref.directory, "/one");
}

Test(cmd_registry, the_only_pool_is_the_default)
{
	cr_assert_eq(cmd_registry_add("vms", "/one", &err), 0);
	cr_assert_eq(cmd_registry_find(NULL, &ref, &err), 0);
	cr_assert_str_eq(ref.name, "vms");
}

Test(cmd_registry, of_several_pools_none_is_guessed_and_all_are_listed)
{
	cr_assert_eq(cmd_registry_add("zeta", "/z", &err), 0);
	cr_assert_eq(cmd_registry_add("alpha", "/a", &err), 0);
	cr_assert_eq(cmd_registry_find(NULL, &ref, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "alpha, zeta"), "%s", err.text);
}

Test(cmd_registry, the_chosen_default_is_taken_and_can_be_changed)
{
	cr_assert_eq(cmd_registry_add("a", "/a", &err), 0);
	cr_assert_eq(cmd_registry_add("b", "/b", &err), 0);
	cr_assert_eq(cmd_registry_set_default("b", &err), 0);
	cr_assert_eq(cmd_registry_find(NULL, &ref, &err), 0);
	cr_assert_str_eq(ref.name, "b");
	cr_assert_eq(cmd_registry_set_default("a", &err), 0);
	cr_assert_eq(cmd_registry_find(NULL, &ref, &err), 0);
	cr_assert_str_eq(ref.name, "a");
}

Test(cmd_registry, what_is_no_pool_can_not_be_the_default)
{
	cr_assert_eq(cmd_registry_set_default("a", &err), -ENOENT);
}

Test(cmd_registry, removing_a_pool_ends_its_being_the_default)
{
	cr_assert_eq(cmd_registry_add("a", "/a", &err), 0);
	cr_assert_eq(cmd_registry_add("b", "/b", &err), 0);
	cr_assert_eq(cmd_registry_set_default("b", &err), 0);
	cr_assert_eq(cmd_registry_remove("b", &err), 0);
	cr_assert_eq(cmd_registry_find(NULL, &ref, &err), 0);
	cr_assert_str_eq(ref.name, "a");
	cr_assert_eq(cmd_registry_find("b", &ref, &err), -ENOENT);
}

Test(cmd_registry, removing_one_pool_keeps_another_default)
{
	cr_assert_eq(cmd_registry_add("a", "/a", &err), 0);
	cr_assert_eq(cmd_registry_add("ab", "/ab", &err), 0);
	cr_assert_eq(cmd_registry_add("abc", "/abc", &err), 0);
	cr_assert_eq(cmd_registry_set_default("ab", &err), 0);
	cr_assert_eq(cmd_registry_remove("a", &err), 0);
	cr_assert_eq(cmd_registry_find(NULL, &ref, &err), 0);
	cr_assert_str_eq(ref.name, "ab");
}

Test(cmd_registry, the_list_is_in_order_of_name)
{
	struct cmd_pool_ref *pools;
	size_t count;

	cr_assert_eq(cmd_registry_add("b", "/b", &err), 0);
	cr_assert_eq(cmd_registry_add("c", "/c", &err), 0);
	cr_assert_eq(cmd_registry_add("a", "/a", &err), 0);
	cr_assert_eq(cmd_registry_list(&pools, &count, &err), 0);
	cr_assert_eq(count, 3);
	cr_assert_str_eq(pools[0].name, "a");
	cr_assert_str_eq(pools[2].directory, "/c");
	free(pools);
}

Test(cmd_registry, a_path_finds_a_pool_that_is_not_registered)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/here", state);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_assert_eq(cmd_registry_find(path, &ref, &err), 0);
	cr_assert_str_eq(ref.name, "here");
	cr_assert_not(ref.registered);
}

Test(cmd_registry, a_path_of_a_registered_pool_gives_its_name)
{
	char path[64], slashed[80], real[PATH_MAX];

	snprintf(path, sizeof(path), "%s/here", state);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_assert_not_null(realpath(path, real));
	cr_assert_eq(cmd_registry_add("vms", real, &err), 0);
	snprintf(slashed, sizeof(slashed), "%s/../here/", path);
	cr_assert_eq(cmd_registry_find(slashed, &ref, &err), 0);
	cr_assert_str_eq(ref.name, "vms");
	cr_assert(ref.registered);
}

Test(cmd_registry, names_that_are_none_are_refused)
{
	static const char *const names[] = { "", ".", "..", "pools", "default", "-sp" };
	char path[PATH_MAX], too_long[NAME_BYTES_MAX + 2];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		cr_assert_eq(cmd_registry_add(names[i], "/a", &err), -EINVAL, "%s", names[i]);
		cr_assert_eq(cmd_registry_home_of(names[i], path, &err), -EINVAL, "%s", names[i]);
	}
	memset(too_long, 'x', NAME_BYTES_MAX + 1);
	too_long[NAME_BYTES_MAX + 1] = '\0';
	cr_assert_eq(cmd_registry_add(too_long, "/a", &err), -ENAMETOOLONG);
	cr_assert_eq(cmd_registry_add("a/b", "/a", &err), -EINVAL);
}

Test(cmd_registry, a_relative_state_directory_is_refused)
{
	char path[PATH_MAX];

	setenv("BDFS_STATE_DIR", "here", 1);
	cr_assert_eq(cmd_registry_state_dir(path, &err), -EINVAL);
}
