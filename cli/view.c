/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lists of bdfs, column by column.
 *
 * Names and order of the columns are VIOS's, so that scripts written for it
 * find what they look for; what VIOS does not know (where a pool is mounted,
 * what a disk really takes) are extra fields.
 *
 * Sizes are whole megabytes: what something has or takes is rounded up, what is
 * free is rounded down, so that "free 1" always has room for 1. JSON has bytes.
 *
 * A field that is not there, or is null, is "None", as VIOS writes for a disk
 * without a virtual target device.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cli/view.h"
#include "cmd/text.h"

static uint64_t bytes_of(const json_t *record, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(record, key));
}

static void put_count(char buf[CLI_CELL_BYTES_MAX], uint64_t n)
{
	snprintf(buf, CLI_CELL_BYTES_MAX, "%llu", (unsigned long long)n);
}

static void cell_text(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	if (cmd_text_from_json(json_object_get(record, key), buf, CLI_CELL_BYTES_MAX) < 0)
		strcpy(buf, "None");
}

/* What is not there is one blank, as VIOS's lsmap has it. */
static void cell_blank(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	if (cmd_text_from_json(json_object_get(record, key), buf, CLI_CELL_BYTES_MAX) < 0 || !buf[0])
		strcpy(buf, " ");
}

static void cell_count(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	put_count(buf, bytes_of(record, key));
}

static void cell_count_or_none(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	if (json_is_integer(json_object_get(record, key)))
		put_count(buf, bytes_of(record, key));
	else
		strcpy(buf, "None");
}

static void cell_mb_up(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	uint64_t bytes = bytes_of(record, key);

	put_count(buf, bytes / MIB + (bytes % MIB != 0));
}

static void cell_mb_down(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	put_count(buf, bytes_of(record, key) / MIB);
}

/* Units of less than a megabyte: 0.0625. */
static void cell_mb_exact(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	snprintf(buf, CLI_CELL_BYTES_MAX, "%g", (double)bytes_of(record, key) / (double)MIB);
}

/* A UUID without its dashes. */
static void cell_udid(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	const char *uuid = json_string_value(json_object_get(record, key));
	size_t used = 0;

	for (; uuid && *uuid && used < CLI_CELL_BYTES_MAX - 1; uuid++)
		if (*uuid != '-')
			buf[used++] = *uuid;
	buf[used] = '\0';
}

static uint64_t unused_bytes(const json_t *record)
{
	uint64_t size = bytes_of(record, "size_bytes"), allocated = bytes_of(record, "allocated_bytes");

	return size > allocated ? size - allocated : 0;
}

static void cell_unused_mb(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	put_count(buf, unused_bytes(record) / MIB);
}

static void cell_used_percent(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	uint64_t size = bytes_of(record, "size_bytes");

	snprintf(buf, CLI_CELL_BYTES_MAX, "%.0f%%",
		 size ? 100.0 * (double)(size - unused_bytes(record)) / (double)size : 0.0);
}

static void cell_upper(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	cell_text(record, key, buf);
	for (char *p = buf; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
}

static void cell_io(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	strcpy(buf, json_is_true(json_object_get(record, "direct")) ? "direct" : "buffered");
}

static void cell_yes_no(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	strcpy(buf, json_is_true(json_object_get(record, key)) ? "yes" : "no");
}

/* A VTD that is not served has no figures. */
static void cell_stat(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	const json_t *figures = json_object_get(record, "stats");

	if (json_is_object(figures))
		put_count(buf, bytes_of(figures, key));
	else
		strcpy(buf, "-");
}

static void cell_stat_mb(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	const json_t *figures = json_object_get(record, "stats");

	if (json_is_object(figures))
		cell_mb_up(figures, key, buf);
	else
		strcpy(buf, "-");
}

/* The upper bound of the bucket that key percent of the requests lie in or below. */
static void cell_percentile(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	const json_t *buckets = json_object_get(json_object_get(record, "stats"), "latency_log2_us"), *it;
	uint64_t total = 0, seen = 0, share = strtoull(key, NULL, 10);
	size_t i;

	strcpy(buf, "-");
	json_array_foreach(buckets, i, it)
		total += (uint64_t)json_integer_value(it);
	for (i = 0; total > 0 && i < json_array_size(buckets); i++) {
		seen += (uint64_t)json_integer_value(json_array_get(buckets, i));
		if (seen * 100 >= total * share) {
			put_count(buf, UINT64_C(1) << i);
			return;
		}
	}
}

static void cell_utc(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	time_t at = (time_t)bytes_of(record, key);
	struct tm tm;

	if (!gmtime_r(&at, &tm) || !strftime(buf, CLI_CELL_BYTES_MAX, "%Y-%m-%d %H:%M:%S", &tm))
		strcpy(buf, "None");
}

static void cell_done_percent(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	uint64_t total = bytes_of(record, "total");

	snprintf(buf, CLI_CELL_BYTES_MAX, "%.0f",
		 total ? 100.0 * (double)MIN(bytes_of(record, "done"), total) / (double)total : 0.0);
}

static const struct cli_column pools[] = {
	{ "pool", "Pool", false, false, cell_text, "name" },
	{ "size", "Size(mb)", true, false, cell_mb_down, "size_bytes" },
	{ "free", "Free(mb)", true, false, cell_mb_down, "free_bytes" },
	{ "alloc", "Alloc Size(mb)", true, false, cell_mb_exact, "allocation_unit_bytes" },
	{ "bds", "BDs", true, false, cell_count, "bds" },
	{ "type", "Type", false, false, cell_text, "type" },
	{ "used", "Used(mb)", true, true, cell_mb_up, "allocated_bytes" },
	{ "virtual", "Virtual(mb)", true, true, cell_mb_up, "virtual_bytes" },
	{ "overcommit", "Overcommit(mb)", true, true, cell_mb_up, "overcommit_bytes" },
	{ "reserved", "Reserved(mb)", true, true, cell_mb_up, "reserved_bytes" },
	{ "lasts", "Full in(s)", true, true, cell_count_or_none, "full_in_s" },
	{ "held", "Held", true, true, cell_count, "held_writes" },
	{ "policy", "Policy", false, true, cell_text, "full_policy" },
	{ "state", "State", false, true, cell_text, "state" },
	{ "mounted", "Mounted", false, true, cell_yes_no, "mounted" },
	{ "mountpoint", "Mount point", false, true, cell_text, "mountpoint" },
	{ "directory", "Directory", false, true, cell_text, "directory" },
	{ "id", "Id", false, true, cell_udid, "uuid" },
	{ 0 },
};

static const struct cli_column bds[] = {
	{ "bdname", "Name", false, false, cell_text, "name" },
	{ "size", "Size(mb)", true, false, cell_mb_up, "size_bytes" },
	{ "vtd", "VTD", false, false, cell_text, "vtd" },
	{ "svsa", "SVSA", false, false, cell_text, "svsa" },
	{ "used", "Used(mb)", true, true, cell_mb_up, "allocated_bytes" },
	{ "unused", "Unused(mb)", true, true, cell_unused_mb, NULL },
	{ "kind", "ProvisionType", false, true, cell_upper, "kind" },
	{ "opens", "Opens", true, true, cell_count, "opens" },
	{ "snapshots", "Snapshots", true, true, cell_count, "snapshots" },
	{ "udid", "Lu Udid", false, true, cell_udid, "uuid" },
	{ 0 },
};

static const struct cli_column pvs[] = {
	{ "pvname", "PVNAME", false, false, cell_text, "path" },
	{ "pvid", "PVID", false, false, cell_udid, "uuid" },
	{ "size", "SIZE(megabytes)", true, false, cell_mb_down, "size_bytes" },
	{ "free", "FREE(megabytes)", true, false, cell_mb_down, "free_bytes" },
	{ "io", "IO", false, false, cell_io, NULL },
	{ "type", "TYPE", false, true, cell_text, "type" },
	{ "sector", "SECTOR", true, true, cell_count, "sector_bytes" },
	{ 0 },
};

static const struct cli_column lus[] = {
	{ "LU_NAME", "LU_NAME", false, false, cell_text, "name" },
	{ "LU_SIZE", "SIZE(MB)", true, false, cell_mb_up, "size_bytes" },
	{ "LU_UNUSED_SPACE", "UNUSED(MB)", true, false, cell_unused_mb, NULL },
	{ "LU_UDID", "UDID", false, false, cell_udid, "uuid" },
	{ "LU_USED_SPACE", "USED(MB)", true, true, cell_mb_up, "allocated_bytes" },
	{ "LU_USED_PERCENT", "USED(%)", true, true, cell_used_percent, NULL },
	{ "LU_PROVISION_TYPE", "PROVISION_TYPE", false, true, cell_upper, "kind" },
	{ 0 },
};

static const struct cli_column verbose[] = {
	{ "LU_UDID", "LU_UDID", false, false, cell_udid, "uuid" },
	{ "LU_NAME", "LU_NAME", false, false, cell_text, "name" },
	{ "LU_SIZE", "LU_SIZE(MB)", true, false, cell_mb_up, "size_bytes" },
	{ "LU_USED_PERCENT", "LU_USED_PERCENT", true, false, cell_used_percent, NULL },
	{ "LU_USED_SPACE", "LU_USED_SPACE(MB)", true, false, cell_mb_up, "allocated_bytes" },
	{ "LU_UNUSED_SPACE", "LU_UNUSED_SPACE(MB)", true, false, cell_unused_mb, NULL },
	{ "LU_PROVISION_TYPE", "LU_PROVISION_TYPE", false, false, cell_upper, "kind" },
	{ "LU_OPENS", "LU_OPENS", true, false, cell_count, "opens" },
	{ 0 },
};

/* A level of `alert -list`: its limit, or how it stands. */
static void cell_limit(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	const json_t *level = json_object_get(record, key);

	if (json_is_object(level))
		put_count(buf, bytes_of(level, "limit_percent"));
	else
		strcpy(buf, "None");
}

static void cell_percent(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	const json_t *level = json_object_get(record, key);

	if (json_is_object(level))
		put_count(buf, bytes_of(level, "percent"));
	else
		strcpy(buf, "None");
}

static void cell_alarm(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	strcpy(buf, json_is_true(json_object_get(json_object_get(record, key), "raised")) ? "raised" : "clear");
}

static const struct cli_column alerts[] = {
	{ "PoolName", "PoolName", false, false, cell_text, "name" },
	{ "PoolID", "PoolID", false, false, cell_udid, "uuid" },
	{ "ThresholdPercent", "ThresholdPercent", true, false, cell_limit, "threshold" },
	{ "OverCommitPercent", "OverCommitPercent", true, false, cell_limit, "overcommit" },
	{ "FreePercent", "FreePercent", true, true, cell_percent, "threshold" },
	{ "OverCommitted", "OverCommitted", true, true, cell_percent, "overcommit" },
	{ "ThresholdAlarm", "ThresholdAlarm", false, false, cell_alarm, "threshold" },
	{ "OverCommitAlarm", "OverCommitAlarm", false, false, cell_alarm, "overcommit" },
	{ 0 },
};

static void cell_time(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX])
{
	time_t when = (time_t)bytes_of(record, key);
	struct tm tm;

	strftime(buf, CLI_CELL_BYTES_MAX, "%Y-%m-%d %H:%M:%S", localtime_r(&when, &tm));
}

static const struct cli_column events[] = {
	{ "time", "Time", false, false, cell_time, "time_s" },
	{ "event", "Event", false, false, cell_text, "event" },
	{ "text", "What", false, false, cell_text, "text" },
	{ "number", "Number", true, true, cell_count, "number" },
	{ "subject", "Subject", false, true, cell_text, "subject" },
	{ "value", "Value", true, true, cell_count, "value" },
	{ "limit", "Limit", true, true, cell_count, "limit" },
	{ 0 },
};

static const struct cli_column mappings[] = {
	{ "svsa", "SVSA", false, false, cell_blank, "svsa" },
	{ "physloc", "Physloc", false, false, cell_blank, "physloc" },
	{ "clientid", "Client Partition ID", false, false, cell_blank, "clientid" },
	{ "vtd", "VTD", false, false, cell_blank, "vtd" },
	{ "status", "Status", false, false, cell_blank, "status" },
	{ "lun", "LUN", false, false, cell_blank, "lun" },
	{ "backing", "Backing device", false, false, cell_blank, "backing" },
	{ "bdphysloc", "Physloc", false, false, cell_blank, "bdphysloc" },
	{ "mirrored", "Mirrored", false, false, cell_blank, "mirrored" },
	{ "device", "Device", false, true, cell_blank, "device" },
	{ "reason", "Reason", false, true, cell_blank, "reason" },
	{ "bd", "BD", false, true, cell_blank, "bd" },
	{ "type", "Type", false, true, cell_blank, "type" },
	{ "transport", "Transport", false, true, cell_blank, "transport" },
	{ "shared", "Shared", false, true, cell_yes_no, "shared" },
	{ "ro", "Read-only", false, true, cell_yes_no, "read_only" },
	{ "use", "In use", false, true, cell_yes_no, "in_use" },
	{ "who", "By", false, true, cell_blank, "who" },
	{ 0 },
};

static const struct cli_column stats[] = {
	{ "vtd", "VTD", false, false, cell_text, "vtd" },
	{ "svsa", "SVSA", false, false, cell_text, "svsa" },
	{ "reads", "Reads", true, false, cell_stat, "reads" },
	{ "writes", "Writes", true, false, cell_stat, "writes" },
	{ "flushes", "Flushes", true, false, cell_stat, "flushes" },
	{ "discards", "Discards", true, false, cell_stat, "discards" },
	{ "rmb", "Read(mb)", true, false, cell_stat_mb, "read_bytes" },
	{ "wmb", "Written(mb)", true, false, cell_stat_mb, "write_bytes" },
	{ "errors", "Errors", true, false, cell_stat, "errors" },
	{ "inflight", "Queue", true, false, cell_stat, "inflight" },
	{ "p50us", "50%(us)", true, false, cell_percentile, "50" },
	{ "p99us", "99%(us)", true, false, cell_percentile, "99" },
	{ 0 },
};

static const struct cli_column devices[] = {
	{ "name", "name", false, false, cell_text, "name" },
	{ "status", "status", false, false, cell_text, "status" },
	{ "description", "description", false, false, cell_text, "description" },
	{ 0 },
};

static const struct cli_column volumes[] = {
	{ "lvname", "LV NAME", false, false, cell_text, "name" },
	{ "type", "TYPE", false, false, cell_text, "kind" },
	{ "lps", "LPs", true, false, cell_count, "partitions" },
	{ "pps", "PPs", true, false, cell_count, "partitions" },
	{ "state", "LV STATE", false, false, cell_text, "state" },
	{ "size", "SIZE(MB)", true, false, cell_mb_up, "size_bytes" },
	{ "udid", "UDID", false, true, cell_udid, "uuid" },
	{ 0 },
};

static const struct cli_column volume[] = {
	{ "lvname", "LOGICAL VOLUME", false, false, cell_text, "name" },
	{ "udid", "LV IDENTIFIER", false, false, cell_udid, "uuid" },
	{ "type", "TYPE", false, false, cell_text, "kind" },
	{ "state", "LV STATE", false, false, cell_text, "state" },
	{ "ppsize", "PP SIZE(MB)", true, false, cell_mb_up, "partition_bytes" },
	{ "lps", "LPs", true, false, cell_count, "partitions" },
	{ "pps", "PPs", true, false, cell_count, "partitions" },
	{ "size", "SIZE(MB)", true, false, cell_mb_up, "size_bytes" },
	{ 0 },
};

static const struct cli_column extents[] = {
	{ "offset", "OFFSET", true, false, cell_count, "offset_bytes" },
	{ "size", "BYTES", true, false, cell_count, "bytes" },
	{ "pv", "PV", false, false, cell_text, "pv" },
	{ "pvoffset", "PV OFFSET", true, false, cell_count, "pv_offset_bytes" },
	{ 0 },
};

static const struct cli_column shares[] = {
	{ "pv", "PV", false, false, cell_text, "pv" },
	{ "size", "SIZE(MB)", true, false, cell_mb_up, "bytes" },
	{ "pps", "PPs", true, false, cell_count, "partitions" },
	{ "extents", "EXTENTS", true, false, cell_count, "extents" },
	{ 0 },
};

static const struct cli_column space[] = {
	{ "name", "Name", false, false, cell_text, "name" },
	{ "kind", "Kind", false, false, cell_text, "kind" },
	{ "virtual", "Virtual(mb)", true, false, cell_mb_up, "virtual_bytes" },
	{ "owned", "Owned(mb)", true, false, cell_mb_up, "owned_bytes" },
	{ "referenced", "Referenced(mb)", true, false, cell_mb_up, "referenced_bytes" },
	{ "exclusive", "Exclusive(mb)", true, false, cell_mb_up, "exclusive_bytes" },
	{ "shared", "Shared(mb)", true, false, cell_mb_up, "shared_bytes" },
	{ "reclaimable", "Reclaimable(mb)", true, false, cell_mb_up, "reclaimable_bytes" },
	{ 0 },
};

static const struct cli_column snapshots[] = {
	{ "LU_NAME", "LU_NAME", false, false, cell_text, "disk" },
	{ "SNAPSHOT", "SNAPSHOT", false, false, cell_text, "name" },
	{ "SIZE", "SIZE(MB)", true, false, cell_mb_up, "size_bytes" },
	{ "OWNED", "OWNED(MB)", true, false, cell_mb_up, "owned_bytes" },
	{ "CREATED", "CREATED(UTC)", false, false, cell_utc, "created_s" },
	{ "UDID", "UDID", false, true, cell_udid, "uuid" },
	{ "CHILDREN", "CHILDREN", true, true, cell_count, "children" },
	{ "OPENS", "OPENS", true, true, cell_count, "opens" },
	{ 0 },
};

static const struct cli_column differences[] = {
	{ "OFFSET", "OFFSET", true, false, cell_count, "offset" },
	{ "BYTES", "BYTES", true, false, cell_count, "bytes" },
	{ "KIND", "KIND", false, false, cell_text, "kind" },
	{ 0 },
};

static const struct cli_column jobs[] = {
	{ "ID", "ID", false, false, cell_text, "id" },
	{ "KIND", "KIND", false, false, cell_text, "kind" },
	{ "DISK", "DISK", false, false, cell_text, "disk" },
	{ "STATE", "STATE", false, false, cell_text, "state" },
	{ "DONE", "DONE(%)", true, false, cell_done_percent, NULL },
	{ "ERROR", "ERROR", false, true, cell_text, "error" },
	{ 0 },
};

static const struct cli_view views[] = {
	{ "lssp", "space", false, space }, { "lu", "space", false, space },
	{ "snapshot", "snapshots", false, snapshots },
	{ "snapshot", "extents", false, differences },
	{ "jobs", "jobs", false, jobs },
	{ "lssp", "pools", false, pools }, { "lssp", "bds", false, bds },       { "lssp", "pvs", false, pvs },
	{ "lu", "lus", false, lus },       { "lu", "verbose", true, verbose },  { "lu", "disks", false, lus },
	{ "mkbdsp", "disks", false, lus }, { "alert", "alerts", true, alerts }, { "events", "events", false, events },
	{ "lsmap", "mappings", false, mappings }, { "lsmap", "stats", false, stats },
	{ "lsdev", "devices", false, devices },
	{ "lslv", "volumes", false, volumes }, { "lslv", "volume", true, volume },
	{ "lslv", "extents", false, extents }, { "lslv", "pvs", false, shares },
	{ "viostat", "stats", false, stats },
};

const struct cli_view *cli_view_find(const char *verb, const json_t *result)
{
	for (size_t i = 0; i < ARRAY_LEN(views); i++)
		if (strcmp(views[i].verb, verb) == 0 && json_is_array(json_object_get(result, views[i].key)))
			return &views[i];
	return NULL;
}

const struct cli_column *cli_view_column(const struct cli_view *view, const char *field)
{
	for (const struct cli_column *c = view->columns; c->field; c++)
		if (strcasecmp(c->field, field) == 0)
			return c;
	return NULL;
}
