/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VTDs of a mounted pool: which are served, where, and why not.
 *
 * The records of meta/targets.h say what is meant to be; this serves it. Each VTD is
 *
 *	Available   served
 *	Defined     recorded, not served, with the reason
 *
 * as VIOS calls it. A VTD that can't be served stops no other.
 *
 * Context: CTL. All functions may be called from several threads.
 */
#ifndef VTD_TABLE_H
#define VTD_TABLE_H

#include "meta/targets.h"
#include "vtd/transport.h"

struct vtd_table;

struct vtd_table_args {
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	const char *directory, *mountpoint; /* constant until vtd_table_free() */
	bool read_only, taken_over; /* see struct vtd_env */
};

/* Serves nothing yet. Return: 0; -ENOMEM. */
MUST_CHECK int vtd_table_open(const struct vtd_table_args *args, struct vtd_table **ret, struct base_error *err);
/* Serves what is recorded and is not served. The mount answers. What goes wrong is logged and kept as the reason. */
void vtd_table_start_all(struct vtd_table *table);
/*
 * Before the unmount. force: although somebody uses them. From here on nothing is started but by vtd_table_start_all().
 * Return: 0; -EBUSY: err names the VTD and who uses it; all are served as before.
 */
MUST_CHECK int vtd_table_stop_all(struct vtd_table *table, bool force, struct base_error *err);
/* Stops, by force, what is still served. NULL is fine. */
void vtd_table_free(struct vtd_table *table);

/* Records and serves: both or none. Return: as meta_vtd_create, and what the transport says. */
MUST_CHECK int vtd_table_map(struct vtd_table *table, const struct meta_vtd_spec *spec, struct meta_vtd_info *ret,
			     struct base_error *err);
/* Return: 0; -ENOENT; -EBUSY: somebody uses it (err says who), and it is not forced; others of the catalogue: it is
 * served as before. */
MUST_CHECK int vtd_table_unmap(struct vtd_table *table, const char *name, bool force, struct base_error *err);
/* See meta_vtd_set_shared. */
MUST_CHECK int vtd_table_set_shared(struct vtd_table *table, const char *name, bool shared, struct base_error *err);

struct vtd_state {
	bool available;
	char reason[BASE_ERROR_TEXT_BYTES]; /* why not */
	struct vtd_status status;           /* when available */
};
void vtd_table_state(struct vtd_table *table, const char *name, struct vtd_state *ret);
/* Return: 0; -ENOENT: it is not served. */
MUST_CHECK int vtd_table_stats(struct vtd_table *table, const char *name, struct vtd_io_stats *ret);

/* The disk has another size: tells whoever is served with it. */
void vtd_table_resized(struct vtd_table *table, uint64_t disk);

#endif
