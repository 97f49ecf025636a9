/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of LMDB's file, as a pass of check.
 *
 * db_open() verifies them all before LMDB sees the file. So on a pool that nobody
 * uses there is nothing left to do when it could be opened; and when it could not,
 * the pages are looked at again, to list what is wrong with them. That list is then
 * the whole report: the records can't be read without LMDB.
 *
 * On a pool in use the file may have gone bad since it was opened. What LMDB has
 * read it has in the page cache, which the walk reads too, so this finds what LMDB
 * would stumble over. One read transaction keeps the state that is walked.
 *
 * Failure modes: the file can't be read: as any other database.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "meta/check_internal.h"

static void note(struct check *check, const struct db_pages_report *pages)
{
	for (unsigned i = 0; i < pages->damage_count; i++)
		check_found(check, META_CHECK_PAGE, CHECK_PLACE(.page = pages->damage[i].page),
			    "page %" PRIu64 " of data.mdb: %s", pages->damage[i].page, pages->damage[i].text);
	check->report->found[META_CHECK_PAGE] += pages->damaged - pages->damage_count;
	check->report->problems += pages->damaged - pages->damage_count;
	/* All that the records might say. */
	check->report->not_judged++;
}

int check_pages(struct check *check)
{
	struct db_pages_report pages;

	if (!check->live)
		return 0;
	int rc = db_verify(check->env, &pages);
	if (rc < 0)
		return base_error_set_errno(check->err, rc, "the pages of the metadata can't be read");
	if (pages.damaged == 0)
		return 0;
	note(check, &pages);
	return CHECK_ENOUGH;
}

int check_pages_refused(struct check *check, const char *dir, int why)
{
	struct db_pages_report pages;

	if (why != -EBADMSG || db_verify_dir(dir, &pages) < 0 || pages.damaged == 0)
		return why;
	note(check, &pages);
	memset(check->err, 0, sizeof(*check->err));
	return CHECK_ENOUGH;
}
