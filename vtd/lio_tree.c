/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's tree of targets in configfs: making, finding and removing what serves one
 * loop device, see lio.h.
 *
 * Everything is found by looking: the backstore by the device that it says it lies on, its
 * LUNs by the links that lead to it. So an end that came in the middle of making or
 * removing is no special case: removing goes on with what is there.
 *
 * The order is the kernel's. Making: backstore, port, LUN. Removing: what initiators see of
 * a LUN, its link, the LUN, the backstore. The removal of a link waits until the commands
 * of that LUN have ended.
 *
 * A port that is there already (by targetcli, or for another VTD) is used as it is, and
 * goes with its last LUN only if it has nothing that we would not have made.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vtd/lio.h"

#define HBA_COUNT_MAX 100000
#define PORTAL "0.0.0.0:3260"
/* A chunk: less than that gives no space back. */
#define UNMAP_GRANULARITY_BYTES 65536u

bool vtd_lio_get(const char *directory, const char *attribute, char *buf, size_t room)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", directory, attribute) >= (int)sizeof(path))
		return false;
	FILE *file = fopen(path, "re");
	bool got = file && fgets(buf, (int)room, file);
	if (file)
		fclose(file);
	if (got)
		buf[strcspn(buf, "\n")] = '\0';
	return got;
}

int vtd_lio_put(const char *directory, const char *attribute, const char *text)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", directory, attribute) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

/* A path of pieces; what is too long for a path ends as a name that nobody has. */
static void join(char ret[PATH_MAX], const char *a, const char *b)
{
	if (snprintf(ret, PATH_MAX, "%s/%s", a, b) >= PATH_MAX)
		ret[0] = '\0';
}

static void parent_of(char ret[PATH_MAX], const char *path)
{
	const char *end = strrchr(path, '/');

	snprintf(ret, PATH_MAX, "%.*s", end ? (int)(end - path) : 0, path);
}

/* Return: 0: made; 1: there already; negative errno, with the path in ret_step. */
static int make_directory(const char *path, char ret_step[PATH_MAX])
{
	if (mkdir(path, 0755) == 0)
		return 0;
	if (errno == EEXIST)
		return 1;
	int rc = -errno;
	snprintf(ret_step, PATH_MAX, "%s", path);
	return rc;
}

static int put_step(const char *directory, const char *attribute, const char *text, char ret_step[PATH_MAX])
{
	int rc = vtd_lio_put(directory, attribute, text);

	if (rc < 0)
		join(ret_step, directory, attribute);
	return rc;
}

/* Calls fn with each path that matches. Return: 0, or what fn returned. */
static int each(const char *pattern, int (*fn)(const char *path, void *ctx), void *ctx)
{
	glob_t found = { 0 };
	int rc = glob(pattern, 0, NULL, &found);

	rc = rc == GLOB_NOSPACE ? -ENOMEM : 0;
	for (size_t i = 0; i < found.gl_pathc && rc == 0; i++)
		rc = fn(found.gl_pathv[i], ctx);
	globfree(&found);
	return rc;
}

static bool leads_to(const char *link, const char *target)
{
	char path[PATH_MAX];
	struct stat st;

	return lstat(link, &st) == 0 && S_ISLNK(st.st_mode) && realpath(link, path) && strcmp(path, target) == 0;
}

/* ---- finding ------------------------------------------------------------------------------ */

struct store_search {
	const char *device;
	char *ret;
};

static int is_store_on(const char *path, void *ctx)
{
	struct store_search *search = ctx;
	char line[256];

	if (!vtd_lio_get(path, "udev_path", line, sizeof(line)) || strcmp(line, search->device) != 0)
		return 0;
	snprintf(search->ret, PATH_MAX, "%s", path);
	return 1;
}

bool vtd_lio_find_store(const char *device, char ret[PATH_MAX])
{
	struct store_search search = { .device = device, .ret = ret };

	return each(VTD_LIO_TARGET "/core/iblock_*/*", is_store_on, &search) == 1;
}

struct lun_search {
	const char *store;
	int (*fn)(const char *link, void *ctx);
	void *ctx;
};

static int lun_of_store(const char *path, void *ctx)
{
	struct lun_search *search = ctx;

	return leads_to(path, search->store) ? search->fn(path, search->ctx) : 0;
}

int vtd_lio_each_lun(const char *store, int (*fn)(const char *link, void *ctx), void *ctx)
{
	struct lun_search search = { .store = store, .fn = fn, .ctx = ctx };

	return each(VTD_LIO_TARGET "/*/*/tpgt_*/lun/lun_*/*", lun_of_store, &search);
}

void vtd_lio_port_path(const struct vtd_lio_port *port, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%s/%s/%s/tpgt_1", VTD_LIO_TARGET, vtd_lio_fabric_to_text(port->fabric), port->wwn);
}

bool vtd_lio_scsi_address(const char *port_path, unsigned lun, char ret[32])
{
	char line[64];
	unsigned host, target;

	if (!vtd_lio_get(port_path, "address", line, sizeof(line)) || sscanf(line, "%u:0:%u", &host, &target) != 2)
		return false;
	snprintf(ret, 32, "%u:0:%u:%u", host, target, lun);
	return true;
}

/* ---- making ------------------------------------------------------------------------------- */

/* A directory iblock_N of its own, as targetcli makes one for each backstore. */
static int make_hba(char ret[PATH_MAX], char ret_step[PATH_MAX])
{
	for (unsigned i = 0; i < HBA_COUNT_MAX; i++) {
		snprintf(ret, PATH_MAX, "%s/core/iblock_%u", VTD_LIO_TARGET, i);
		int rc = make_directory(ret, ret_step);
		if (rc <= 0)
			return rc;
	}
	return -ENOSPC;
}

/* What the loop device can't do (it is read-only, say) is not offered. */
static int offer_unmap(const char *store, char ret_step[PATH_MAX])
{
	char attributes[PATH_MAX], line[32], text[16];

	join(attributes, store, "attrib");
	if (!vtd_lio_get(attributes, "max_unmap_lba_count", line, sizeof(line)) || strtoul(line, NULL, 10) == 0)
		return 0;
	if (!vtd_lio_get(attributes, "block_size", line, sizeof(line)) || strtoul(line, NULL, 10) == 0)
		return -EIO;
	snprintf(text, sizeof(text), "%lu", UNMAP_GRANULARITY_BYTES / strtoul(line, NULL, 10));
	int rc = put_step(attributes, "emulate_tpu", "1", ret_step);
	if (rc == 0)
		rc = put_step(attributes, "emulate_tpws", "1", ret_step);
	return rc < 0 ? rc : put_step(attributes, "unmap_granularity", text, ret_step);
}

int vtd_lio_make_store(const char *device, const char *name, const char *serial, bool read_only, char ret[PATH_MAX],
		       char ret_step[PATH_MAX])
{
	char hba[PATH_MAX], control[256];
	int rc = make_hba(hba, ret_step);

	if (rc < 0)
		return rc;
	join(ret, hba, name);
	rc = make_directory(ret, ret_step);
	if (rc < 0) {
		rmdir(hba);
		return rc;
	}
	snprintf(control, sizeof(control), "udev_path=%s,readonly=%d", device, read_only);
	rc = put_step(ret, "udev_path", device, ret_step); /* first: by this it is found again */
	if (rc == 0)
		rc = put_step(ret, "control", control, ret_step);
	if (rc == 0)
		rc = put_step(ret, "enable", "1", ret_step);
	if (rc == 0)
		rc = put_step(ret, "wwn/vpd_unit_serial", serial, ret_step);
	return rc < 0 || read_only ? rc : offer_unmap(ret, ret_step);
}

/* A port without a nexus answers nobody. The other end's name is made from ours, as its last digit says. */
static int make_nexus(const struct vtd_lio_port *port, const char *path, char ret_step[PATH_MAX])
{
	char initiator[META_PHYSLOC_BYTES_MAX + 1];
	size_t last = strlen(port->wwn) - 1;

	snprintf(initiator, sizeof(initiator), "%s", port->wwn);
	initiator[last] = initiator[last] == '0' ? '1' : '0';
	int rc = put_step(path, "nexus", initiator, ret_step);
	return rc == -EEXIST ? 0 : rc;
}

/* Only client may log in. It is known by its name alone; who wants more adds it by targetcli. */
static int make_iscsi(const char *path, const char *client, char ret_step[PATH_MAX])
{
	char portal[PATH_MAX], acls[PATH_MAX], acl[PATH_MAX];
	int rc = put_step(path, "attrib/authentication", "0", ret_step);

	join(portal, path, "np/" PORTAL);
	join(acls, path, "acls");
	join(acl, acls, client);
	if (rc == 0)
		rc = MIN(make_directory(portal, ret_step), 0);
	if (rc == 0)
		rc = MIN(make_directory(acl, ret_step), 0);
	return rc < 0 ? rc : put_step(path, "enable", "1", ret_step);
}

int vtd_lio_make_port(const struct vtd_lio_port *port, const char *client, char ret_step[PATH_MAX])
{
	char path[PATH_MAX], wwn[PATH_MAX];

	vtd_lio_port_path(port, path);
	parent_of(wwn, path);
	int rc = make_directory(wwn, ret_step);
	if (rc >= 0)
		rc = make_directory(path, ret_step);
	if (rc < 0)
		return rc;
	if (port->fabric != VTD_LIO_ISCSI)
		return make_nexus(port, path, ret_step);
	return rc > 0 ? 0 : make_iscsi(path, client, ret_step);
}

struct acl_lun {
	const char *lun; /* the directory of the LUN in the port */
	bool read_only;
	char *step;
};

/* An initiator with an entry of its own sees only what is mapped to it. */
static int show_to(const char *acl, void *ctx)
{
	const struct acl_lun *add = ctx;
	char directory[PATH_MAX], link[PATH_MAX];

	join(directory, acl, strrchr(add->lun, '/') + 1);
	int rc = make_directory(directory, add->step);
	if (rc != 0)
		return MIN(rc, 0);
	join(link, directory, "bdfs");
	if (symlink(add->lun, link) < 0) {
		snprintf(add->step, PATH_MAX, "%s", link);
		return -errno;
	}
	return put_step(directory, "write_protect", add->read_only ? "1" : "0", add->step);
}

int vtd_lio_make_lun(const struct vtd_lio_port *port, const char *store, unsigned lun, bool read_only,
		     char ret_step[PATH_MAX])
{
	char path[PATH_MAX], directory[PATH_MAX], link[PATH_MAX], name[32], pattern[PATH_MAX];

	vtd_lio_port_path(port, path);
	snprintf(name, sizeof(name), "lun/lun_%u", lun);
	join(directory, path, name);
	snprintf(ret_step, PATH_MAX, "%s", directory);
	if (mkdir(directory, 0755) < 0)
		return -errno;
	join(link, directory, strrchr(store, '/') + 1);
	if (symlink(store, link) < 0) {
		int rc = -errno;
		rmdir(directory);
		return rc;
	}
	struct acl_lun add = { .lun = directory, .read_only = read_only, .step = ret_step };
	join(pattern, path, "acls/*");
	return each(pattern, show_to, &add);
}

/* ---- removing ----------------------------------------------------------------------------- */

static int hide(const char *link, void *ctx)
{
	char directory[PATH_MAX];

	if (!leads_to(link, ctx))
		return 0;
	parent_of(directory, link);
	return unlink(link) < 0 || rmdir(directory) < 0 ? -errno : 0;
}

static int remove_lun(const char *link, void *ctx)
{
	char lun[PATH_MAX], path[PATH_MAX], pattern[PATH_MAX], *step = ctx;

	snprintf(step, PATH_MAX, "%s", link);
	parent_of(lun, link);
	parent_of(pattern, lun);
	parent_of(path, pattern);
	join(pattern, path, "acls/*/lun_*/*");
	int rc = each(pattern, hide, lun);
	return rc < 0 ? rc : unlink(link) < 0 || rmdir(lun) < 0 ? -errno : 0;
}

int vtd_lio_release(const char *device, char ret_step[PATH_MAX])
{
	char store[PATH_MAX], hba[PATH_MAX];

	if (!vtd_lio_find_store(device, store))
		return 0;
	int rc = vtd_lio_each_lun(store, remove_lun, ret_step);
	if (rc < 0)
		return rc;
	snprintf(ret_step, PATH_MAX, "%s", store);
	parent_of(hba, store);
	return rmdir(store) < 0 || rmdir(hba) < 0 ? -errno : 0;
}

static int found(const char *path, void *ctx)
{
	return !ctx || strcmp(strrchr(path, '/') + 1, ctx) != 0;
}

/* Whether a directory of the port has nothing, or nothing but this. */
static bool has_only(const char *path, const char *directory, const char *name)
{
	char pattern[PATH_MAX];

	snprintf(pattern, sizeof(pattern), "%.3000s/%s", path, directory);
	return each(pattern, found, (void *)(uintptr_t)name) == 0;
}

static void drop_iscsi(const char *path, const char *client)
{
	char line[16] = "", part[PATH_MAX];

	if (!vtd_lio_get(path, "attrib/authentication", line, sizeof(line)) || strcmp(line, "0") != 0 ||
	    !has_only(path, "np/*", PORTAL) || !has_only(path, "acls/*", client))
		return;
	(void)!vtd_lio_put(path, "enable", "0");
	snprintf(part, sizeof(part), "%.3000s/acls/%s", path, client);
	rmdir(part);
	join(part, path, "np/" PORTAL);
	rmdir(part);
}

void vtd_lio_drop_port(const struct vtd_lio_port *port, const char *client)
{
	char path[PATH_MAX], wwn[PATH_MAX];

	vtd_lio_port_path(port, path);
	if (!has_only(path, "lun/lun_*", NULL))
		return;
	if (port->fabric == VTD_LIO_ISCSI)
		drop_iscsi(path, client);
	/* What has something in it stays. */
	parent_of(wwn, path);
	if (rmdir(path) == 0)
		rmdir(wwn);
}
