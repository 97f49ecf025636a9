/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.bdfs: what mount(8) calls for `mount -t bdfs POOL MOUNTPOINT` and for a
 * line of /etc/fstab.
 *
 * It is the same program under another name. mount(8) calls a helper as
 *   mount.TYPE SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE.SUBTYPE]
 * and wants its own exit statuses: 1 usage or permissions, 2 system error, 32
 * the mount failed. All the work is the verb mount's.
 *
 * -n (no mtab) and -v are without meaning here; -f means "do all but mount";
 * -s means "pass over unknown options". -N is refused: mount(8) enters the
 * namespace itself for helpers that don't.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cmd/execute.h"
#include "cmd/mount_options.h"
#include "cmd/text.h"

static int fail(enum cmd_exit status, const char *text)
{
	fprintf(stderr, "mount.bdfs: ");
	for (; *text; text++)
		fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, stderr);
	fputc('\n', stderr);
	return cmd_exit_status_for_mount(status);
}

static int usage(void)
{
	return fail(CMD_EXIT_USAGE, "usage: mount.bdfs POOL MOUNTPOINT [-sfnv] [-o OPTIONS]; see mount.bdfs(8)");
}

static int mount_it(json_t *args)
{
	struct cmd_outcome outcome;

	cmd_execute(&cmd_mount, args, NULL, &outcome);

	enum cmd_exit status = cmd_exit_status(cmd_mount.name, outcome.code, outcome.subject);
	int r = outcome.code < 0 ? fail(status, outcome.err.text) : 0;

	cmd_outcome_done(&outcome);
	return r;
}

/* -f: only whether the options are sound. */
static int check_only(const char *options, bool sloppy)
{
	struct cmd_mount_options ignored = { 0 };
	struct base_error err = { 0 };

	return cmd_mount_options_parse(options, sloppy, &ignored, &err) < 0 ? fail(CMD_EXIT_USAGE, err.text) : 0;
}

/* Appends with a comma between. Return: false when it is too long. */
static bool add_options(char *options, size_t room, const char *more)
{
	size_t used = strlen(options);
	int n = snprintf(options + used, room - used, "%s%s", used ? "," : "", more);

	return n >= 0 && (size_t)n < room - used;
}

int cli_mount_helper(int argc, char *argv[])
{
	char options[512] = "";
	bool fake = false, sloppy = false;
	int c;

	while ((c = getopt(argc, argv, "sfnvo:t:")) != -1) {
		fake |= c == 'f';
		sloppy |= c == 's';
		if (c == '?')
			return usage();
		if (c == 'o' && !add_options(options, sizeof(options), optarg))
			return fail(CMD_EXIT_USAGE, "-o: too many options");
	}
	if (argc - optind != 2)
		return usage();
	if (fake)
		return check_only(options, sloppy);

	json_t *args = json_pack("{s:o, s:o, s:o, s:b}", "pool", cmd_text_to_json(argv[optind]), "mountpoint",
				 cmd_text_to_json(argv[optind + 1]), "o", cmd_text_to_json(options), "sloppy", sloppy);
	int r = args ? mount_it(args) : fail(CMD_EXIT_NO_MEMORY, "out of memory");

	json_decref(args);
	return r;
}
