/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: the two ways in, and the order of the passes.
 *
 *   0  the pages of LMDB's file              what is wrong there ends the check
 *   1  the pool record and the pvs           which chunks and ids there are
 *   2  layers, snapshots, disks              the catalogue, the tree, who owns which store
 *   3  adapters, VTDs                        checksums only
 *   4  space                                 what is marked as owned (the set `space`)
 *   5  index and map, in one pass            presence, entries, who owns what (the set `owned`)
 *   6  marked without owner, owned twice     the differences of the two sets
 *   7  counters and ends of disks            what pass 5 suspected on a pool in use
 *   8  labels
 *   9  promises to thick disks              only of a pool that is not in use
 *
 * Why nothing is reported on a pool in use that a change could explain. All
 * invariants hold in every committed state of LMDB, and a transaction sees one
 * such state. So there are two kinds of questions:
 *
 *   - those about a few records (a leaf and its index bit, an entry and its bit in
 *     the space bitmap, a disk and its layer, two disks of one name) are answered
 *     from records read in one transaction. Where a pass comes to its suspicion
 *     from records of several transactions, it reads all of them again in one;
 *   - those about very many (does any entry own this chunk; do a million leaves
 *     add up to this counter) are answered by walks on the metadata thread, which
 *     makes all the changes: between two steps of a walk there is at most one
 *     commit, and the walk accounts for it. See check_live.c, check_owners.c and
 *     check_recount.c, each with its own argument.
 *
 * One thing is not an invariant of the committed state: that a disk has no data
 * beyond its end; check_end.c.
 *
 * Conversely, what is wrong and stays as it is is found: each pass meets every
 * record that is there all the time, and a suspect is only dropped when one moment
 * shows it innocent, or when it changes hands (which what is really lost can't).
 *
 * Memory: two bits for each chunk that is owned, in groups, the suspects, and
 * some 150 bytes a layer. Time: one pass over everything, on a pool in use mostly
 * one or two more over the map.
 *
 * Failure modes: see check.h. A database whose tree is damaged ends the check.
 */
#include "meta/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"

/* ---- making and freeing ------------------------------------------------------------------------ */

void check_free(struct check *check)
{
	check_close_pvs(check);
	db_read_free(check->slot);
	db_read_free(check->mw_slot);
	chunk_set_free(check->owned);
	chunk_set_free(check->space);
	chunk_set_free(check->leaked);
	chunk_set_free(check->twice);
	free(check->pvs);
	free(check->layers);
	free(check->by_store);
	free(check->recounts);
	free(check->ends);
	free(check->report);
	free(check);
}

struct check *check_new(const struct meta_check_args *args, struct base_error *err)
{
	struct check *check = calloc(1, sizeof(*check));

	if (!check)
		return NULL;
	check->args = args;
	check->err = err;
	check->pv_flags = META_PV_READ_ONLY;
	check->way_out = "check it where it is mounted";
	check->slice_records = CHECK_SLICE_RECORDS;
	check->hunts = CHECK_HUNTS;
	check->report = calloc(1, sizeof(*check->report));
	check->pvs = calloc(1, sizeof(*check->pvs));
	check->owned = chunk_set_new();
	check->space = chunk_set_new();
	check->leaked = chunk_set_new();
	check->twice = chunk_set_new();
	if (check->report && check->pvs && check->owned && check->space && check->leaked && check->twice)
		return check;
	check_free(check);
	return NULL;
}

/* ---- the passes --------------------------------------------------------------------------------- */

static int count_records(struct check *check)
{
	uint64_t count, total = 0;
	struct db_txn *txn;
	int rc = check_begin(check, &txn);

	if (rc < 0)
		return rc;
	for (int kind = 0; kind < DB_KINDS && rc == 0; kind++) {
		rc = db_count(txn, (enum db_kind)kind, &count);
		if (rc < 0)
			rc = check_cant_read(check, (enum db_kind)kind, rc);
		else
			total += count;
	}
	db_read_end(txn);
	atomic_store(&check->total, total);
	return rc;
}

int check_run_passes(struct check *check)
{
	static int (*const passes[])(struct check * check) = {
		check_pages, count_records,    check_pool_and_pvs, check_layers, check_snapshots,
		check_disks, check_layer_tree, check_targets,      check_space,  check_map,
		check_owners, check_recounts,  check_ends,         check_labels, check_promises,
	};
	int rc = 0;

	for (unsigned i = 0; i < ARRAY_LEN(passes) && rc == 0; i++)
		rc = passes[i](check);
	return rc == CHECK_ENOUGH ? 0 : rc;
}

static void take_report(struct check *check, struct meta_check_report *ret)
{
	check->report->unclean = !check->live && check->pool_known && !check->pool_record.clean;
	*ret = *check->report;
}

/* ---- the ways in ---------------------------------------------------------------------------------- */

int meta_check(const struct meta_check_args *args, struct meta_check_report *ret, struct base_error *err)
{
	struct check *check = check_new(args, err);

	if (!check)
		return base_error_set_errno(err, -ENOMEM, "check");
	check->pool = args->pool;
	check->env = args->pool->env;
	check->live = !args->pool->read_only;
	int rc = check_run_passes(check);
	if (rc == 0)
		take_report(check, ret);
	check_free(check);
	return rc;
}

/* What the records say is taken down only when nobody can change them any more. */
int check_lock_dir(struct check *check, const char *dir)
{
	int rc = check_pool_and_pvs(check);

	if (rc == 0)
		rc = check_open_pvs(check, dir);
	memset(check->report, 0, sizeof(*check->report));
	memset(check->pvs, 0, sizeof(*check->pvs));
	check->pool_known = false;
	atomic_store(&check->done, 0);
	return rc;
}

int meta_check_dir(const char *dir, const struct meta_check_args *args, struct meta_check_report *ret,
		   struct base_error *err)
{
	struct meta_check_args mine = *args;
	struct check *check;

	mine.pool = NULL;
	if (!mine.pv_ops)
		mine.pv_ops = &meta_pv_real;
	check = check_new(&mine, err);
	if (!check)
		return base_error_set_errno(err, -ENOMEM, "check");
	check->dir = dir;
	int rc = db_open(dir, DB_OPEN_READ_ONLY, 0, &check->env, err);
	if (rc < 0)
		rc = check_pages_refused(check, dir, rc);
	if (rc == 0)
		rc = check_lock_dir(check, dir);
	if (rc == 0)
		rc = check_run_passes(check);
	if (rc >= 0) {
		take_report(check, ret);
		rc = 0;
	}
	struct db_env *env = check->env;
	check_free(check);
	db_close(env);
	return rc;
}
