/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verbs say in words, in the manner of VIOS: the name of a new pool,
 * the name and UDID of a new disk, what was removed. Most verbs that change
 * something and succeed say nothing.
 *
 * Above a table stands what belongs to it: the pool and tier of `lu -list`, the
 * facts of a pool and its daemon for `lssp -detail`.
 *
 * Names come as cmd/text.h writes them and are made safe for a terminal here.
 */
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "cli/render.h"
#include "cmd/text.h"

#define PICTURE_COLUMNS 64

static const char *string_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static uint64_t number_of(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void print_name(const json_t *object, const char *key)
{
	char name[CLI_CELL_BYTES_MAX];

	if (cmd_text_from_json(json_object_get(object, key), name, sizeof(name)) < 0)
		return;
	for (const char *p = name; *p; p++)
		putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
}

static void print_udid(const json_t *disk)
{
	for (const char *p = string_of(disk, "uuid"); *p; p++)
		if (*p != '-')
			putchar(*p);
}

static void print_size(const json_t *object, const char *key)
{
	char text[BASE_SIZE_TEXT_BYTES];

	fputs(base_size_to_text(number_of(object, key), text), stdout);
}

static void print_made(const json_t *result)
{
	const json_t *disks = json_object_get(result, "disks");
	size_t count = json_array_size(disks);

	if (count == 1) {
		printf("Lu Name:");
		print_name(json_array_get(disks, 0), "name");
		printf("\nLu Udid:");
		print_udid(json_array_get(disks, 0));
		putchar('\n');
	} else if (count > 1) {
		printf("%zu disks of ", count);
		print_size(json_array_get(disks, 0), "size_bytes");
		printf(" made: ");
		print_name(json_array_get(disks, 0), "name");
		printf(" to ");
		print_name(json_array_get(disks, count - 1), "name");
		putchar('\n');
	}
}

static void print_removed_disks(const json_t *removed)
{
	const json_t *disk;
	size_t i;

	json_array_foreach(removed, i, disk) {
		printf("Logical unit ");
		print_name(disk, "name");
		printf(" with udid \"");
		print_udid(disk);
		printf("\" is removed.\n");
	}
}

static void print_removed(const json_t *result)
{
	if (json_is_string(json_object_get(result, "vtd"))) {
		print_name(result, "vtd");
		printf(" deleted\n");
	}
	print_removed_disks(json_object_get(result, "removed"));
}

static void print_disk_size(const json_t *disk)
{
	print_name(disk, "name");
	printf(": ");
	print_size(disk, "size_bytes");
	putchar('\n');
}

static char shade(json_int_t share)
{
	static const char shades[] = " .:-=+*#%@";
	const json_int_t steps = (json_int_t)sizeof(shades) - 2;

	/* Only what is wholly free is blank and only what is wholly full is '@'. */
	if (share <= 0)
		return shades[0];
	return share >= 255 ? shades[steps] : shades[1 + share * (steps - 1) / 255];
}

static void print_picture(const json_t *result)
{
	const json_t *cells = json_object_get(result, "cells"), *pool = json_object_get(result, "pool");
	size_t count = json_array_size(cells);

	print_name(pool, "name");
	printf(": ");
	print_size(pool, "allocated_bytes");
	printf(" of ");
	print_size(pool, "size_bytes");
	printf(" in use\n");
	for (size_t row = 0; row < count; row += PICTURE_COLUMNS) {
		putchar('|');
		for (size_t i = row; i < MIN(row + PICTURE_COLUMNS, count); i++)
			putchar(shade(json_integer_value(json_array_get(cells, i))));
		printf("|\n");
	}
}

/* lssp: the forms that are no list. */
static bool print_lssp(const json_t *result)
{
	if (json_object_get(result, "cells")) {
		print_picture(result);
		return true;
	}
	if (json_object_get(result, "default")) {
		print_name(result, "default");
		putchar('\n');
		return true;
	}
	return false;
}

static bool print_mapping(const json_t *result)
{
	const json_t *adapter = json_object_get(result, "adapter"), *mapping = json_object_get(result, "mapping");

	print_name(adapter ? adapter : mapping, adapter ? "svsa" : "vtd");
	printf(" %s", adapter ? "Available" : string_of(mapping, "status"));
	if (json_is_string(json_object_get(mapping, "device"))) {
		putchar(' ');
		print_name(mapping, "device");
	}
	putchar('\n');
	if (json_is_string(json_object_get(mapping, "warning")))
		fprintf(stderr, "bdfs: warning: %s\n", string_of(mapping, "warning"));
	return true;
}

static bool print_unmapped(const json_t *result)
{
	const json_t *it;
	size_t i;

	json_array_foreach(json_object_get(result, "unmapped"), i, it)
		printf("%s deleted\n", json_string_value(it));
	return true;
}

static bool print_changed(const json_t *result)
{
	print_name(result, "changed");
	printf(" changed\n");
	return true;
}

/* As VIOS tells of a disk that was made and mapped, or only mapped. */
static void print_assigned(const json_t *result)
{
	const json_t *mapping = json_object_get(result, "mapping");

	print_made(result);
	printf("%sAssigning logical unit '", json_object_get(result, "disks") ? "\n" : "");
	print_name(mapping, "bd");
	printf("' as a backing device.\n\nVTD:%s\n", string_of(mapping, "vtd"));
}

static bool print_lu(const json_t *result)
{
	if (json_object_get(result, "mapping"))
		print_assigned(result);
	else if (json_object_get(result, "disks"))
		print_made(result);
	else if (json_object_get(result, "unmapped"))
		print_unmapped(result);
	else if (json_object_get(result, "removed"))
		print_removed(result);
	else if (json_object_get(result, "disk"))
		print_disk_size(json_object_get(result, "disk"));
	else
		return false;
	return true;
}

static bool print_mksp(const json_t *result)
{
	print_name(result, "pool");
	putchar('\n');
	return true;
}

static void print_repair(const json_t *repair)
{
	const json_t *changes = json_object_get(repair, "changes"), *change;
	uint64_t changed = number_of(repair, "changed");
	bool dry_run = json_is_true(json_object_get(repair, "dry_run"));
	size_t i;

	json_array_foreach(changes, i, change) {
		print_name(change, "text");
		putchar('\n');
	}
	printf("%s %llu changes; %llu problems before\n", dry_run ? "would make" : "made",
	       (unsigned long long)changed, (unsigned long long)number_of(repair, "problems_before"));
}

/* What was found, and what was looked at. That something was found is said by the error beside it. */
static bool print_check(const json_t *result)
{
	const json_t *findings = json_object_get(result, "findings"), *finding;
	uint64_t problems = number_of(result, "problems"), open_questions = number_of(result, "not_judged");
	size_t i;

	if (json_object_get(result, "repair"))
		print_repair(json_object_get(result, "repair"));
	json_array_foreach(findings, i, finding) {
		printf("%s: ", string_of(finding, "kind"));
		print_name(finding, "text");
		putchar('\n');
	}
	if (problems > json_array_size(findings))
		printf("... and %llu more\n", (unsigned long long)(problems - json_array_size(findings)));
	printf("%s: %llu pvs, %llu disks, %llu layers, %llu leaves, %llu chunks owned\n",
	       problems ? "damaged" : "clean", (unsigned long long)number_of(result, "pvs"),
	       (unsigned long long)number_of(result, "disks"), (unsigned long long)number_of(result, "layers"),
	       (unsigned long long)number_of(result, "leaves"), (unsigned long long)number_of(result, "chunks_owned"));
	if (json_is_true(json_object_get(result, "unclean")))
		printf("the pool was not closed in order: this is its last commit, and the next mount replays what "
		       "came after\n");
	if (strcmp(string_of(result, "copy"), "none") == 0) {
		printf("no copy of the metadata is on the first pv (room for ");
		print_size(result, "copy_room_bytes");
		printf("): without the pool's directory only a dump could bring it back\n");
	}
	if (open_questions)
		printf("%llu questions are left open: %s\n", (unsigned long long)open_questions,
		       problems ? "damaged records stand in the way" : "too much changed meanwhile; check again");
	return true;
}

/* Silent, but for what is not as it should be. */
static bool print_mount(const json_t *result)
{
	char text[256];
	const char *why = string_of(result, "engine_why");

	if (why[0]) {
		snprintf(text, sizeof(text), "engine %s, since %s", string_of(result, "engine"), why);
		cli_complain(cmd_mount.name, text);
	}
	if (string_of(result, "faults")[0]) {
		snprintf(text, sizeof(text), "faults are injected into this pool's devices: %.200s",
			 string_of(result, "faults"));
		cli_complain(cmd_mount.name, text);
	}
	return true;
}

static bool print_restored(const json_t *result)
{
	printf("pool ");
	print_name(result, "pool");
	printf(" is back in ");
	print_name(result, "directory");
	printf(": %zu disks, as of commit %llu\n", json_array_size(json_object_get(result, "disks")),
	       (unsigned long long)number_of(result, "commit"));
	return true;
}

/* -set and -unset say nothing; the list is a list. */
static bool print_alert(const json_t *result)
{
	return !json_object_get(result, "alerts");
}

static bool print_lv(const json_t *result)
{
	print_name(json_object_get(result, "lv"), "name");
	putchar('\n');
	return true;
}

static bool print_removed_lvs(const json_t *result)
{
	const json_t *removed = json_object_get(result, "removed_lvs"), *volume;
	size_t i;

	json_array_foreach(removed, i, volume)
	{
		printf("rmlv: Logical volume ");
		print_name(volume, "name");
		printf(" is removed.\n");
	}
	return true;
}

static void print_snapshot(const json_t *snapshot)
{
	print_name(snapshot, "disk");
	putchar('@');
	print_name(snapshot, "name");
}

/* A new snapshot's name alone, so that a script can have it. */
static bool print_snapshot_verb(const json_t *result)
{
	const json_t *list = json_object_get(result, "removed"), *it;
	size_t i;

	if (json_object_get(result, "created")) {
		print_name(result, "name");
		putchar('\n');
		return true;
	}
	json_array_foreach(list, i, it) {
		printf("Snapshot ");
		print_snapshot(it);
		printf(" is removed.\n");
	}
	list = json_object_get(result, "rolled_back") ? json_object_get(result, "rolled_back") : list;
	json_array_foreach(json_object_get(result, "rolled_back"), i, it)
		print_disk_size(it);
	return list;
}

/* The id of the job, if there is one. */
static bool print_inflate(const json_t *result)
{
	if (json_is_string(json_object_get(result, "job")))
		printf("%s\n", string_of(result, "job"));
	return true;
}

/* The token alone, so that a script can have it. */
static bool print_receive(const json_t *result)
{
	if (json_object_get(result, "token"))
		printf("%s\n", string_of(result, "token"));
	return true;
}

static bool print_send(const json_t *result)
{
	print_name(result, "disk");
	putchar('@');
	print_name(result, "snapshot");
	fputs(": ", stdout);
	print_size(result, "data_bytes");
	printf(" of data\n");
	return true;
}

static bool print_jobs(const json_t *result)
{
	return !json_object_get(result, "jobs");
}

/* The tables are the race's own. */
static bool print_bench(const json_t *result)
{
	puts(string_of(result, "text"));
	return true;
}

static bool print_nothing(const json_t *result)
{
	return true;
}

static const struct {
	const struct cmd_verb *verb;
	bool (*print)(const json_t *result);
} texts[] = {
	{ &cmd_lssp, print_lssp },        { &cmd_lu, print_lu },
	{ &cmd_mkbdsp, print_lu },        { &cmd_rmbdsp, print_lu },
	{ &cmd_check, print_check },      { &cmd_chbdsp, print_lu },
	{ &cmd_mksp, print_mksp },        { &cmd_mount, print_mount },
	{ &cmd_chsp, print_nothing },     { &cmd_rmsp, print_nothing },
	{ &cmd_umount, print_nothing },   { &cmd_alert, print_alert },
	{ &cmd_mklv, print_lv },          { &cmd_cplv, print_lv },
	{ &cmd_extendlv, print_nothing }, { &cmd_rmlv, print_removed_lvs },
	{ &cmd_restore, print_restored },  { &cmd_import, print_restored },
	{ &cmd_mkvdev, print_mapping },   { &cmd_rmvdev, print_unmapped }, { &cmd_rmdev, print_unmapped },
	{ &cmd_chdev, print_changed },    { &cmd_lsmap, cli_print_map },
	{ &cmd_snapshot, print_snapshot_verb }, { &cmd_inflate, print_inflate }, { &cmd_jobs, print_jobs },
	{ &cmd_send, print_send },        { &cmd_receive, print_receive },  { &cmd_bench, print_bench },
};

bool cli_print_text(const struct cmd_verb *verb, const json_t *result)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i].verb == verb)
			return texts[i].print(result);
	return false;
}

/* ---- above a list ------------------------------------------------------------------------- */

static void print_duration(uint64_t seconds)
{
	if (seconds >= 86400)
		printf("%llu d ", (unsigned long long)(seconds / 86400));
	printf("%02llu:%02llu:%02llu", (unsigned long long)(seconds / 3600 % 24),
	       (unsigned long long)(seconds / 60 % 60), (unsigned long long)(seconds % 60));
}

static void print_space(const json_t *pool)
{
	printf("SPACE:       ");
	print_size(pool, "size_bytes");
	printf(", ");
	print_size(pool, "allocated_bytes");
	printf(" in use, ");
	print_size(pool, "free_bytes");
	printf(" free");
	if (number_of(pool, "reserved_bytes")) {
		printf(", ");
		print_size(pool, "reserved_bytes");
		printf(" reserved");
	}
	printf("\nLASTS:       ");
	if (json_is_integer(json_object_get(pool, "full_in_s"))) {
		print_duration(number_of(pool, "full_in_s"));
		printf(" at ");
		print_size(pool, "fill_bytes_per_s");
		printf(" a second");
	} else {
		printf("it does not fill");
	}
	printf("\nWHEN FULL:   %s", string_of(pool, "full_policy"));
	if (strcmp(string_of(pool, "full_policy"), "hold") == 0)
		printf(" for %llu s", (unsigned long long)number_of(pool, "hold_limit_s"));
	if (number_of(pool, "held_writes")) {
		printf("; FULL: %llu writes held (", (unsigned long long)number_of(pool, "held_writes"));
		print_size(pool, "held_bytes");
		putchar(')');
	}
	if (json_is_true(json_object_get(pool, "metadata_short")))
		printf("; LITTLE ROOM FOR METADATA");
	printf("\nDISKS:       %llu, together ", (unsigned long long)number_of(pool, "bds"));
	print_size(pool, "virtual_bytes");
	printf(" virtual");
	if (number_of(pool, "overcommit_bytes")) {
		printf(", over-committed by ");
		print_size(pool, "overcommit_bytes");
	}
	putchar('\n');
}

static void print_counters(const json_t *daemon)
{
	const json_t *io = json_object_get(daemon, "counters"), *commits = json_object_get(daemon, "commits");
	const json_t *cache = json_object_get(daemon, "map_cache");

	printf("I/O:         %llu reads (", (unsigned long long)number_of(io, "reads"));
	print_size(io, "read_bytes");
	printf("), %llu writes (", (unsigned long long)number_of(io, "writes"));
	print_size(io, "write_bytes");
	printf("), %llu flushes, %llu errors\n", (unsigned long long)number_of(io, "flushes"),
	       (unsigned long long)number_of(io, "errors"));
	printf("COMMITS:     %llu, the last took %.1f ms, the longest %.1f ms\n",
	       (unsigned long long)number_of(commits, "count"), (double)number_of(commits, "last_ns") / 1e6,
	       (double)number_of(commits, "max_ns") / 1e6);
	printf("MAP CACHE:   ");
	print_size(cache, "bytes");
	printf(" of at most ");
	print_size(cache, "limit_bytes");
	printf(", %llu leaves, %llu views", (unsigned long long)number_of(cache, "leaves"),
	       (unsigned long long)number_of(cache, "views"));
	if (json_is_real(json_object_get(cache, "hit_percent")))
		printf(", hit rate %.1f %%", json_real_value(json_object_get(cache, "hit_percent")));
	printf(", %llu dropped\n", (unsigned long long)number_of(cache, "evictions"));
}

static void print_daemon(const json_t *daemon)
{
	const json_t *faults = json_object_get(daemon, "faults");
	const char *why = string_of(daemon, "engine_why");

	printf("MOUNTED ON:  ");
	print_name(daemon, "mountpoint");
	printf("%s\nDAEMON:      pid %llu, up ",
	       json_is_true(json_object_get(daemon, "read_only")) ? " (read-only)" : "",
	       (unsigned long long)number_of(daemon, "pid"));
	print_duration(number_of(daemon, "uptime_s"));
	printf(", engine %s%s%s, %llu queues\n", string_of(daemon, "engine"), why[0] ? " since " : "", why,
	       (unsigned long long)number_of(daemon, "queues"));
	if (json_is_object(faults)) {
		printf("FAULTS:      injected on purpose, %llu so far, by ",
		       (unsigned long long)number_of(faults, "injected"));
		print_name(faults, "rules");
		putchar('\n');
	}
	print_counters(daemon);
}

static void print_copy(const json_t *copy)
{
	const char *failure = string_of(copy, "failure");

	printf("COPY:        ");
	if (!json_is_true(json_object_get(copy, "there"))) {
		bool too_large = strcmp(failure, "too-large") == 0;

		printf("none of the metadata, %s ", too_large ? "which is larger than its room of" : "room for");
		print_size(copy, "room_bytes");
		printf("%s%s%s\n", too_large ? ": no import is possible, keep dumps" : "",
		       failure[0] && !too_large ? ": " : "", too_large ? "" : failure);
		return;
	}
	printf("of the metadata, ");
	print_size(copy, "bytes");
	printf(", %llu commits behind; %llu taken, the longest %.1f ms\n",
	       (unsigned long long)number_of(copy, "behind"), (unsigned long long)number_of(copy, "taken"),
	       (double)number_of(copy, "max_ns") / 1e6);
}

static void print_detail(const json_t *result)
{
	const json_t *pool = json_object_get(result, "pool"), *daemon = json_object_get(result, "daemon");

	printf("POOL:        ");
	print_name(pool, "name");
	printf(" (%s)\nDIRECTORY:   ", string_of(pool, "uuid"));
	print_name(pool, "directory");
	printf("\nSTATE:       %s", string_of(pool, "state"));
	if (json_is_string(json_object_get(pool, "failed_why"))) {
		printf(": ");
		print_name(pool, "failed_why");
	}
	putchar('\n');
	print_space(pool);
	if (json_is_object(daemon)) /* without one nobody keeps the copy */
		print_copy(json_object_get(pool, "copy"));
	if (json_is_object(daemon))
		print_daemon(daemon);
	else
		printf("MOUNTED ON:  not mounted\n");
	putchar('\n');
}

void cli_print_before(const struct cmd_verb *verb, const json_t *result)
{
	if (verb == &cmd_lssp && json_object_get(result, "pvs"))
		print_detail(result);
	if (verb == &cmd_lu && json_object_get(result, "lus")) {
		printf("POOL_NAME: ");
		print_name(result, "pool");
		printf("\nTIER_NAME: SYSTEM\n");
	}
}
