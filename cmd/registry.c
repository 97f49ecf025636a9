/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of pools: symbolic links in the state directory.
 *
 * A link is made, read and removed in one system call each, so the registry
 * needs no lock and no file format: two commands at once end as one after the
 * other. The default is a link too, put in place by rename() so that there is
 * never a moment without one.
 *
 * Looking up: text with a '/' is a path to a pool's directory; anything else is
 * a registered name. With nothing given it is the default that `chsp -default`
 * set; without one, the only pool there is. With several pools and no default
 * set nothing is guessed: data in the wrong pool is dearer than a word more.
 *
 * Failure modes: a state directory that is not there has no pools; a link that
 * leads nowhere is still listed, so that it can be seen and removed (opening it
 * then says what is missing); no $HOME and no XDG_STATE_HOME is an error that
 * names BDFS_STATE_DIR.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/registry.h"
#include "meta/records.h"

#define STATE_DIR_MODE 0755 /* names of pools are no secret; the pools' own directories are 0700 */

/* a, then middle, then b. */
static int join(char buf[PATH_MAX], const char *a, const char *middle, const char *b, struct base_error *err)
{
	int n = snprintf(buf, PATH_MAX, "%s%s%s", a, middle, b);

	if (n < 0 || n >= PATH_MAX)
		return base_error_set(err, -ENAMETOOLONG, "%s: the path is longer than %d bytes", a, PATH_MAX - 1);
	return 0;
}

int cmd_registry_state_dir(char buf[PATH_MAX], struct base_error *err)
{
	const char *set = getenv("BDFS_STATE_DIR");
	const char *xdg = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");

	if (set && set[0] == '/')
		return join(buf, set, "", "", err);
	if (set && set[0])
		return base_error_set(err, -EINVAL, "BDFS_STATE_DIR is %s: it must be an absolute path", set);
	if (geteuid() == 0)
		return join(buf, "/var/lib/bdfs", "", "", err);
	if (xdg && xdg[0] == '/')
		return join(buf, xdg, "/", "bdfs", err);
	if (home && home[0] == '/')
		return join(buf, home, "/", ".local/state/bdfs", err);
	return base_error_set(err, -ENOENT, "no place for the list of pools: set BDFS_STATE_DIR or HOME");
}

static int check_pool_name(const char *name, struct base_error *err)
{
	int r = meta_name_check(name, err);

	if (r < 0)
		return base_error_wrap(err, "%s: not a name for a pool", name);
	if (strcmp(name, "pools") == 0 || strcmp(name, "default") == 0)
		return base_error_set(err, -EINVAL,
				      "%s: this name is taken by the list of pools itself; choose another", name);
	/* "-x" would be read as an option wherever the pool's name is given by its place. */
	if (name[0] == '-')
		return base_error_set(err, -EINVAL, "%s: a pool's name does not start with '-'", name);
	return 0;
}

/* STATE, then middle, then name. */
static int path_in_state(const char *middle, const char *name, char buf[PATH_MAX], struct base_error *err)
{
	char state[PATH_MAX];
	int r = cmd_registry_state_dir(state, err);

	return r < 0 ? r : join(buf, state, middle, name, err);
}

int cmd_registry_home_of(const char *name, char buf[PATH_MAX], struct base_error *err)
{
	int r = check_pool_name(name, err);

	return r < 0 ? r : path_in_state("/", name, buf, err);
}

int cmd_make_directories(const char *path, mode_t mode, struct base_error *err)
{
	char part[PATH_MAX];
	size_t length = strlen(path);

	if (length >= sizeof(part))
		return base_error_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, mode) < 0 && errno != EEXIST)
			return base_error_set_errno(err, -errno, "%s: can't make the directory", part);
	}
	return 0;
}

/* Reads where link leads. Return: 0; negative errno (-ENOENT, -EINVAL: no link). */
static int read_link(const char *link, char buf[PATH_MAX])
{
	ssize_t n = readlink(link, buf, PATH_MAX - 1);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

static int find_by_name(const char *name, struct cmd_pool_ref *ret, struct base_error *err)
{
	char link[PATH_MAX];
	int r = check_pool_name(name, err);

	if (r == 0)
		r = path_in_state("/pools/", name, link, err);
	if (r < 0)
		return r;
	r = read_link(link, ret->directory);
	if (r == -ENOENT)
		return base_error_set(err, r, "%s: no such pool; `bdfs lssp` lists them, and a path needs a '/'", name);
	if (r < 0)
		return base_error_set_errno(err, r, "%s: can't read %s", name, link);
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	ret->registered = true;
	return 0;
}

/* Gives *ref, whose directory is known, the name under which that is registered. */
static void name_by_directory(struct cmd_pool_ref *ref)
{
	struct cmd_pool_ref *pools = NULL;
	size_t count = 0;
	const char *last = strrchr(ref->directory, '/');

	snprintf(ref->name, sizeof(ref->name), "%.*s", NAME_BYTES_MAX, last && last[1] ? last + 1 : "pool");
	ref->registered = false;
	if (cmd_registry_list(&pools, &count, NULL) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(pools[i].directory, ref->directory) != 0)
			continue;
		*ref = pools[i];
		break;
	}
	free(pools);
}

static int find_by_path(const char *path, struct cmd_pool_ref *ret, struct base_error *err)
{
	if (!realpath(path, ret->directory))
		return base_error_set_errno(err, -errno, "%s: not the directory of a pool", path);
	name_by_directory(ret);
	return 0;
}

static int several_pools(const struct cmd_pool_ref *pools, size_t count, struct base_error *err)
{
	char list[400];
	size_t used = 0;

	list[0] = '\0';
	for (size_t i = 0; i < count && used < sizeof(list) - 1; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", pools[i].name);
	return base_error_set(
		err, -EINVAL,
		"which pool? There are %zu (%s): say -sp POOL, or choose one with `bdfs chsp -default POOL`", count,
		list);
}

static int find_default(struct cmd_pool_ref *ret, struct base_error *err)
{
	struct cmd_pool_ref *pools = NULL;
	char link[PATH_MAX], target[PATH_MAX];
	size_t count = 0;
	int r = path_in_state("/", "default", link, err);

	if (r < 0)
		return r;
	r = read_link(link, target);
	if (r == 0)
		return find_by_name(strrchr(target, '/') ? strrchr(target, '/') + 1 : target, ret, err);
	if (r != -ENOENT)
		return base_error_set_errno(err, r, "can't read %s", link);
	r = cmd_registry_list(&pools, &count, err);
	if (r < 0)
		return r;
	if (count == 1)
		*ret = pools[0];
	else if (count == 0)
		r = base_error_set(err, -ENOENT,
				   "there is no pool yet: make one with `bdfs mksp`, or give -sp DIRECTORY");
	else
		r = several_pools(pools, count, err);
	free(pools);
	return r;
}

int cmd_registry_find(const char *sp, struct cmd_pool_ref *ret, struct base_error *err)
{
	if (!sp)
		return find_default(ret, err);
	return strchr(sp, '/') ? find_by_path(sp, ret, err) : find_by_name(sp, ret, err);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct cmd_pool_ref *)a)->name, ((const struct cmd_pool_ref *)b)->name);
}

/* Appends the pool that entry names; leaves out what is no link or no name. */
static int append_entry(const char *pools_dir, const char *entry, struct cmd_pool_ref **pools, size_t *count)
{
	struct cmd_pool_ref ref = { .registered = true };
	char link[PATH_MAX];

	if (entry[0] == '.' || strlen(entry) > NAME_BYTES_MAX || join(link, pools_dir, "/", entry, NULL) < 0 ||
	    read_link(link, ref.directory) < 0)
		return 0;
	snprintf(ref.name, sizeof(ref.name), "%.*s", NAME_BYTES_MAX, entry);

	struct cmd_pool_ref *grown = realloc(*pools, (*count + 1) * sizeof(**pools));

	if (!grown)
		return -ENOMEM;
	grown[(*count)++] = ref;
	*pools = grown;
	return 0;
}

int cmd_registry_list(struct cmd_pool_ref **ret, size_t *ret_count, struct base_error *err)
{
	struct cmd_pool_ref *pools = NULL;
	char pools_dir[PATH_MAX];
	size_t count = 0;
	int r = path_in_state("/", "pools", pools_dir, err);

	if (r < 0)
		return r;

	DIR *dir = opendir(pools_dir);

	if (!dir && errno != ENOENT)
		return base_error_set_errno(err, -errno, "can't list the pools in %s", pools_dir);
	for (struct dirent *entry; dir && r == 0 && (entry = readdir(dir));)
		r = append_entry(pools_dir, entry->d_name, &pools, &count);
	if (dir)
		closedir(dir);
	if (r < 0) {
		free(pools);
		return base_error_set(err, r, "out of memory while listing the pools");
	}
	if (count)
		qsort(pools, count, sizeof(*pools), compare_names);
	*ret = pools;
	*ret_count = count;
	return 0;
}

int cmd_registry_add(const char *name, const char *directory, struct base_error *err)
{
	char link[PATH_MAX], pools_dir[PATH_MAX], holder[PATH_MAX];
	int r = check_pool_name(name, err);

	if (r == 0)
		r = path_in_state("/", "pools", pools_dir, err);
	if (r == 0)
		r = cmd_make_directories(pools_dir, STATE_DIR_MODE, err);
	if (r == 0)
		r = join(link, pools_dir, "/", name, err);
	if (r < 0)
		return r;
	if (symlink(directory, link) == 0)
		return 0;
	if (errno == EEXIST && read_link(link, holder) == 0)
		return base_error_set(err, -EEXIST, "%s: there is a pool of this name already, in %s", name, holder);
	return base_error_set_errno(err, -errno, "%s: can't be entered in the list of pools (%s)", name, link);
}

int cmd_registry_remove(const char *name, struct base_error *err)
{
	char link[PATH_MAX], target[PATH_MAX];
	int r = path_in_state("/", "default", link, err);

	if (r < 0)
		return r;
	if (read_link(link, target) == 0 && strncmp(target, "pools/", 6) == 0 && strcmp(target + 6, name) == 0)
		unlink(link);
	r = path_in_state("/pools/", name, link, err);
	if (r == 0 && unlink(link) < 0)
		r = base_error_set_errno(err, -errno, "%s: can't be taken off the list of pools (%s)", name, link);
	return r;
}

int cmd_registry_set_default(const char *name, struct base_error *err)
{
	char link[PATH_MAX], fresh[PATH_MAX], target[PATH_MAX];
	struct cmd_pool_ref ref;
	int r = find_by_name(name, &ref, err);

	if (r == 0)
		r = path_in_state("/", "default", link, err);
	if (r == 0)
		r = path_in_state("/", ".default-new", fresh, err);
	if (r == 0)
		r = join(target, "pools", "/", name, err);
	if (r < 0)
		return r;
	unlink(fresh); /* of a command that was killed half-way */
	if (symlink(target, fresh) < 0 || rename(fresh, link) < 0)
		return base_error_set_errno(err, -errno, "%s: can't be made the default pool (%s)", name, link);
	return 0;
}
