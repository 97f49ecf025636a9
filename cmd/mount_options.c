/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mount options: a comma-separated text to what it asks for.
 *
 * One table says for each word whether it is ours, the kernel's, or mount(8)'s
 * own. The kernel gets only words that are known to be safe and to mean there
 * what they say; an unknown one is refused with its name, as a mount that
 * silently lacks an option somebody relied on is found out too late. With sloppy
 * (mount -s) unknown ones are passed over, which is what that asks for.
 *
 * Later words win over earlier ones (rw after ro, dev after nodev), as mount(8)
 * has it: the kernel's list keeps their order.
 *
 * Failure modes: -EINVAL with a text that names the word.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/mount_options.h"

enum word_kind { WORD_OURS, WORD_KERNEL, WORD_IGNORED, WORD_REFUSED };

static const struct word {
	const char *name;
	enum word_kind kind;
	const char *why; /* WORD_REFUSED */
} words[] = {
	{ "ro", WORD_OURS, NULL },
	{ "rw", WORD_OURS, NULL },
	{ "allow_other", WORD_OURS, NULL },
	{ "survive", WORD_OURS, NULL },
	{ "noexec", WORD_KERNEL, NULL },
	{ "exec", WORD_KERNEL, NULL },
	{ "nodev", WORD_KERNEL, NULL },
	{ "dev", WORD_KERNEL, NULL },
	{ "nosuid", WORD_KERNEL, NULL },
	{ "suid", WORD_KERNEL, NULL },
	{ "noatime", WORD_KERNEL, NULL },
	{ "defaults", WORD_IGNORED, NULL },
	{ "_netdev", WORD_IGNORED, NULL },
	{ "nofail", WORD_IGNORED, NULL },
	{ "auto", WORD_IGNORED, NULL },
	{ "noauto", WORD_IGNORED, NULL },
	{ "user", WORD_IGNORED, NULL },
	{ "nouser", WORD_IGNORED, NULL },
	{ "users", WORD_IGNORED, NULL },
	{ "owner", WORD_IGNORED, NULL },
	{ "group", WORD_IGNORED, NULL },
	{ "relatime", WORD_IGNORED, NULL },
	{ "atime", WORD_IGNORED, NULL },
	{ "async", WORD_IGNORED, NULL },
	{ "remount", WORD_REFUSED, "unmount and mount again instead" },
	{ "bind", WORD_REFUSED, "mount the pool first, then bind its mount point" },
};

static const struct word *find_word(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	return NULL;
}

static int add_kernel(struct cmd_mount_options *options, const char *name, struct base_error *err)
{
	size_t used = strlen(options->kernel);
	int n = snprintf(options->kernel + used, sizeof(options->kernel) - used, "%s%s", used ? "," : "", name);

	if (n < 0 || (size_t)n >= sizeof(options->kernel) - used)
		return base_error_set(err, -EINVAL, "-o: too many options");
	return 0;
}

static int set_queues(struct cmd_mount_options *options, const char *value, struct base_error *err)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end || n < 1 || n > CMD_QUEUES_MAX)
		return base_error_set(err, -EINVAL, "-o queues=%s: must be a number from 1 to %d", value,
				      CMD_QUEUES_MAX);
	options->queues = (unsigned)n;
	return 0;
}

int cmd_mount_cache_set(const char *what, const struct base_size *size, struct cmd_mount_options *options,
			struct base_error *err)
{
	if (size->is_increment || size->bytes < CMD_CACHE_BYTES_MIN || size->bytes > CMD_CACHE_BYTES_MAX)
		return base_error_set(err, -EINVAL, "%s: must be a size from 1M to 1T", what);
	options->cache_bytes = size->bytes;
	return 0;
}

static int set_cache(struct cmd_mount_options *options, const char *value, struct base_error *err)
{
	struct base_size size;
	int r = base_size_parse(value, MIB, &size, err);

	return r < 0 ? base_error_wrap(err, "-o cache=%s", value)
		     : cmd_mount_cache_set("-o cache", &size, options, err);
}

int cmd_mount_engine_parse(const char *what, const char *text, struct cmd_mount_options *options,
			   struct base_error *err)
{
	const char *colon =
		strncmp(text, "fault:", 6) == 0 || strncmp(text, "fault+", 6) == 0 ? strchr(text, ':') : NULL;
	size_t length = colon ? (size_t)(colon - text) : strlen(text);

	options->faults[0] = '\0';
	if (colon && strlen(colon + 1) >= sizeof(options->faults))
		return base_error_set(err, -EINVAL, "%s%s: the rules are too long here: put them into a file", what,
				      text);
	if (colon && colon[1] == '\0')
		return base_error_set(err, -EINVAL, "%s%s: say which faults, or name a file of rules", what, text);
	if (colon) {
		strcpy(options->faults, colon + 1);
		text += MIN(length, strlen("fault+"));
		length -= MIN(length, strlen("fault+"));
	}
	if ((!colon && length == 0) || length >= sizeof(options->engine))
		return base_error_set(err, -EINVAL, "%s%s: not the name of an engine", what, text);
	snprintf(options->engine, sizeof(options->engine), "%.*s", (int)length, text);
	return 0;
}

static void set_ours(struct cmd_mount_options *options, const char *name)
{
	if (strcmp(name, "allow_other") == 0)
		options->allow_other = true;
	else if (strcmp(name, "survive") == 0)
		options->survive = true;
	else
		options->read_only = strcmp(name, "ro") == 0;
}

int cmd_mount_hook_parse(const char *path, struct cmd_mount_options *options, struct base_error *err)
{
	if (path[0] != '/' || strlen(path) >= sizeof(options->hook))
		return base_error_set(err, -EINVAL, "hook %s: must be an absolute path of less than %zu bytes", path,
				      sizeof(options->hook));
	strcpy(options->hook, path);
	return 0;
}

static int take_word(const char *name, bool sloppy, struct cmd_mount_options *options, struct base_error *err)
{
	const struct word *word = find_word(name);

	if (strncmp(name, "queues=", 7) == 0)
		return set_queues(options, name + 7, err);
	if (strncmp(name, "cache=", 6) == 0)
		return set_cache(options, name + 6, err);
	if (strncmp(name, "hook=", 5) == 0)
		return cmd_mount_hook_parse(name + 5, options, err);
	if (strncmp(name, "engine=", 7) == 0)
		return cmd_mount_engine_parse("-o engine=", name + 7, options, err);
	/* What these prefixes lead in is for userspace, by agreement; mount(8) hands it on all the same. */
	if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0 || strncmp(name, "comment=", 8) == 0 ||
	    (!word && sloppy))
		return 0;
	if (!word)
		return base_error_set(err, -EINVAL, "-o %s: unknown option; mount.bdfs(8) lists those that there are",
				      name);
	if (word->kind == WORD_REFUSED)
		return base_error_set(err, -EINVAL, "-o %s: can't be done: %s", name, word->why);
	if (word->kind == WORD_KERNEL)
		return add_kernel(options, name, err);
	if (word->kind == WORD_OURS)
		set_ours(options, name);
	return 0;
}

int cmd_mount_options_parse(const char *text, bool sloppy, struct cmd_mount_options *options, struct base_error *err)
{
	char *copy = strdup(text), *rest = copy, *name;
	int r = copy ? 0 : base_error_set(err, -ENOMEM, "out of memory");

	while (r == 0 && (name = strsep(&rest, ",")))
		if (name[0])
			r = take_word(name, sloppy, options, err);
	free(copy);
	return r;
}
