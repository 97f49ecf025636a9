/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open pool as JSON: what it is, its physical volumes, the daemon around it.
 *
 * Sizes are bytes. "free" is what the next write may get: space that was freed
 * and is not yet safe to hand out is counted, as it is on its way. "overcommit"
 * is by how much the disks' sizes together exceed the pool, never below 0.
 *
 * VIOS knows pools of files (FBPOOL) and of volumes (LVPOOL); a pool all of
 * whose pvs are files is of the first type, any other of the second.
 *
 * Failure modes: none but memory; every figure is a copy taken under the lock
 * of its owner, so figures of one answer may be some microseconds apart.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/uuid.h"
#include "cmd/pools.h"
#include "cmd/text.h"
#include "iocore/pool.h"
#include "meta/pool.h"

struct pv_list {
	json_t *list;
	bool all_files;
};

static json_int_t chunk_bytes(uint64_t chunks)
{
	return (json_int_t)(chunks * CHUNK_BYTES);
}

static void add_pv(const struct meta_pv_info *pv, void *arg)
{
	struct pv_list *pvs = arg;
	char uuid[BASE_UUID_TEXT_BYTES];

	pvs->all_files &= pv->is_file;
	if (!pvs->list)
		return;
	json_array_append_new(pvs->list,
			      json_pack("{s:I, s:o, s:s, s:I, s:I, s:I, s:s, s:b, s:I}", "number",
					(json_int_t)pv->number, "path", cmd_text_to_json(pv->path), "uuid",
					base_uuid_to_text(pv->uuid, uuid), "size_bytes", (json_int_t)pv->size_bytes,
					"usable_bytes", chunk_bytes(pv->total_chunks), "free_bytes",
					chunk_bytes(pv->free_chunks), "type", pv->is_file ? "file" : "device", "direct",
					pv->direct, "sector_bytes", (json_int_t)pv->sector_bytes));
}

json_t *cmd_pvs_to_json(struct cmd_context *ctx)
{
	struct pv_list pvs = { .list = json_array() };

	meta_pool_each_pv(ctx->meta, add_pv, &pvs);
	return pvs.list;
}

static const char *pool_type(struct cmd_context *ctx)
{
	struct pv_list pvs = { .all_files = true };

	meta_pool_each_pv(ctx->meta, add_pv, &pvs);
	return pvs.all_files ? "FBPOOL" : "LVPOOL";
}

static json_t *threshold(unsigned percent)
{
	return percent ? json_integer(percent) : json_null();
}

/* What matters when the pool fills. */
static void add_fullness(json_t *pool, const struct meta_pool_info *info)
{
	json_object_set_new(pool, "reserved_bytes", json_integer(chunk_bytes(info->reserved_chunks)));
	json_object_set_new(pool, "full_policy", json_string(info->full_policy == META_FULL_HOLD ? "hold" : "error"));
	json_object_set_new(pool, "hold_limit_s", json_integer(info->hold_limit_s));
	json_object_set_new(pool, "held_writes", json_integer((json_int_t)info->held_writes));
	json_object_set_new(pool, "held_bytes", json_integer((json_int_t)info->held_bytes));
	json_object_set_new(pool, "free_threshold_percent", threshold(info->free_threshold_percent));
	json_object_set_new(pool, "overcommit_threshold_percent", threshold(info->overcommit_threshold_percent));
	json_object_set_new(pool, "metadata_short", json_boolean(info->metadata_short));
	json_object_set_new(pool, "fill_bytes_per_s", json_integer((json_int_t)info->fill_bytes_per_s));
	json_object_set_new(pool, "full_in_s",
			    info->full_in_s == UINT64_MAX ? json_null() : json_integer((json_int_t)info->full_in_s));
}

/* The copy of the metadata on the first pv. */
static json_t *copy_to_json(const struct meta_pool_info *info)
{
	const char *why = info->copy_failure == -EFBIG ? "too-large"
			  : info->copy_failure < 0     ? strerror(-info->copy_failure)
						       : NULL;

	return json_pack("{s:b, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "there", info->copy_is_there,
			 "failure", why, "commit",
			 (json_int_t)info->copy_commit, "behind",
			 (json_int_t)(info->metadata_commit - info->copy_commit), "made_s",
			 (json_int_t)info->copy_made_s, "bytes", (json_int_t)info->copy_bytes, "room_bytes",
			 (json_int_t)info->copy_room_bytes, "taken", (json_int_t)info->copies, "written_bytes",
			 (json_int_t)info->copy_bytes_written, "last_ns", (json_int_t)info->copy_ns_last, "max_ns",
			 (json_int_t)info->copy_ns_max);
}

json_t *cmd_pool_to_json(struct cmd_context *ctx)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	struct meta_pool_info info;

	meta_pool_info(ctx->meta, &info);

	uint64_t size_bytes = info.total_chunks * CHUNK_BYTES;
	uint64_t over_bytes = info.virtual_bytes > size_bytes ? info.virtual_bytes - size_bytes : 0;

	json_t *pool = json_pack(
		"{s:o, s:s, s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
		cmd_text_to_json(info.name), "uuid", base_uuid_to_text(info.uuid, uuid), "directory",
		cmd_text_to_json(ctx->directory), "type", pool_type(ctx), "state", info.failed ? "failed" : "ok",
		"size_bytes", (json_int_t)size_bytes, "free_bytes", chunk_bytes(info.free_chunks), "pending_bytes",
		chunk_bytes(info.pending_chunks), "allocated_bytes",
		chunk_bytes(info.total_chunks - info.free_chunks - info.reserved_chunks), "virtual_bytes",
		(json_int_t)info.virtual_bytes, "overcommit_bytes", (json_int_t)over_bytes, "allocation_unit_bytes",
		(json_int_t)CHUNK_BYTES, "bds", (json_int_t)info.disks, "pvs", (json_int_t)info.pvs);

	if (!pool)
		return NULL;
	add_fullness(pool, &info);
	json_object_set_new(pool, "failed_why", info.failed ? cmd_text_to_json(info.failed_why) : json_null());
	json_object_set_new(pool, "bad_records", json_integer((json_int_t)info.bad_records));
	json_object_set_new(pool, "metadata_bytes", json_integer((json_int_t)info.meta_used_bytes));
	json_object_set_new(pool, "copy", copy_to_json(&info));
	json_object_set_new(pool, "mounted", json_boolean(ctx->service != NULL));
	json_object_set_new(pool, "mountpoint", cmd_text_to_json(ctx->service ? ctx->service->mountpoint : NULL));
	return pool;
}

static json_t *counters_to_json(struct ioc_pool *ioc)
{
	struct ioc_counters c;

	ioc_pool_counters(ioc, &c);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "reads", (json_int_t)c.reads, "writes",
			 (json_int_t)c.writes, "flushes", (json_int_t)c.flushes, "discards", (json_int_t)c.discards,
			 "read_bytes", (json_int_t)c.read_bytes, "write_bytes", (json_int_t)c.write_bytes,
			 "read_modify_writes", (json_int_t)c.rmw, "allocations", (json_int_t)c.allocations, "errors",
			 (json_int_t)c.errors);
}

static json_t *commits_to_json(struct meta_pool *meta)
{
	struct meta_pool_info info;

	meta_pool_info(meta, &info);
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)info.commits, "last_ns",
			 (json_int_t)info.commit_ns_last, "max_ns", (json_int_t)info.commit_ns_max, "dirty_leaves",
			 (json_int_t)info.dirty_leaves, "cached_leaves", (json_int_t)info.cached_leaves);
}

static json_t *map_cache_to_json(struct meta_pool *meta, struct ioc_pool *ioc)
{
	struct meta_pool_info info;
	struct ioc_counters c;

	meta_pool_info(meta, &info);
	ioc_pool_counters(ioc, &c);
	/* Flushes look nothing up. */
	uint64_t asked = c.reads + c.writes + c.discards, hits = asked - MIN(info.cache_misses, asked);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "limit_bytes", (json_int_t)info.cache_limit_bytes,
			 "bytes", (json_int_t)info.cache_bytes, "leaves", (json_int_t)info.cached_leaves, "views",
			 (json_int_t)info.cached_views, "misses",
			 (json_int_t)info.cache_misses, "lookups", (json_int_t)info.cache_lookups, "evictions",
			 (json_int_t)info.cache_evictions, "hit_percent",
			 asked ? json_real(100.0 * (double)hits / (double)asked) : json_null());
}

static json_t *folded_to_json(struct meta_pool *meta)
{
	struct meta_pool_info info;

	meta_pool_info(meta, &info);
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "folds", (json_int_t)info.folded.folds, "leaves",
			 (json_int_t)info.folded.leaves, "chunks_moved", (json_int_t)info.folded.chunks_moved,
			 "blocks_copied", (json_int_t)info.folded.blocks_copied, "chunks_freed",
			 (json_int_t)info.folded.chunks_freed);
}

static json_t *faults_to_json(struct base_fault *fault)
{
	if (!fault)
		return json_null();
	return json_pack("{s:o, s:I}", "rules", cmd_text_to_json(base_fault_text(fault)), "injected",
			 (json_int_t)base_fault_count(fault));
}

json_t *cmd_service_to_json(struct cmd_context *ctx)
{
	const struct cmd_service *service = ctx->service;

	if (!service)
		return json_null();
	return json_pack(
		"{s:I, s:o, s:o, s:b, s:I, s:I, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o}", "pid",
		(json_int_t)service->pid, "mountpoint", cmd_text_to_json(service->mountpoint), "options",
		cmd_text_to_json(service->options),
		"read_only", service->read_only, "started_s", (json_int_t)service->started_s, "uptime_s",
		(json_int_t)((uint64_t)time(NULL) - service->started_s), "engine", ioc_pool_engine_name(ctx->ioc),
		"engine_why", cmd_text_to_json(ioc_pool_engine_why(ctx->ioc)), "queues",
		(json_int_t)ioc_pool_queue_count(ctx->ioc), "counters", counters_to_json(ctx->ioc), "commits",
		commits_to_json(ctx->meta), "map_cache", map_cache_to_json(ctx->meta, ctx->ioc), "folded",
		folded_to_json(ctx->meta), "faults", faults_to_json(service->fault));
}

uid_t cmd_pool_owner(const char *directory)
{
	struct stat st;

	return stat(directory, &st) == 0 ? st.st_uid : geteuid();
}
