/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The helper's side of the transport "lio": a process of its own, see run_helper.h. What
 * it opens may wait for the daemon, and so may each request that the target makes while
 * it looks at a new disk.
 *
 * Serve: load what is missing of the kernel's modules, make backstore, port and LUN on the
 * loop device that loop_helper.c has made. Asked again, for a mount that a new daemon took
 * over, it finds them as they are and gives the same answer. What failed half-way is
 * removed again.
 *
 * End: without force, what is in use is left alone: a disk of this host that is mounted or
 * open (the exclusive open keeps others off meanwhile), an initiator that is logged in, a
 * guest on the port. With force they lose it.
 *
 * The loop device is only touched if its sequence number is that of our attachment.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/magic.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vtd/lio.h"
#include "vtd/loop.h"

#define CONFIGFS "/sys/kernel/config"
#ifndef CONFIGFS_MAGIC
#define CONFIGFS_MAGIC 0x62656570
#endif
/* The kernel looks at a new disk in the background. */
#define DISK_PATIENCE_MS 5000

static bool has_sequence(const char *device, const char *sequence)
{
	uint64_t wanted = strtoull(sequence, NULL, 10);

	return wanted != 0 && vtd_loop_sequence(device) == wanted;
}

/* ---- what the kernel has ------------------------------------------------------------------ */

/* Whether it is there then, the caller looks. */
static void load(const char *module)
{
	char *argv[] = { (char *)"modprobe", (char *)"-q", (char *)(uintptr_t)module, NULL };
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) == 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			continue;
}

static bool has_configfs(void)
{
	struct statfs fs;

	return statfs(CONFIGFS, &fs) == 0 && fs.f_type == CONFIGFS_MAGIC;
}

/* Return: 0; negative errno: it has been answered. */
static int need_target(const struct vtd_lio_port *port)
{
	char fabric[PATH_MAX];

	if (access(VTD_LIO_TARGET "/core", F_OK) < 0)
		load("target_core_mod");
	if (!has_configfs())
		(void)!mount("configfs", CONFIGFS, "configfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (access(VTD_LIO_TARGET "/core", F_OK) < 0)
		return vtd_helper_answer(-EOPNOTSUPP,
					 "no LIO target: %s is not there (it needs root, configfs, and the kernel's "
					 "module target_core_mod)",
					 VTD_LIO_TARGET);
	snprintf(fabric, sizeof(fabric), "%s/%s", VTD_LIO_TARGET, vtd_lio_fabric_to_text(port->fabric));
	load("target_core_iblock");
	load(vtd_lio_module_of(port->fabric));
	if (port->fabric == VTD_LIO_LOOPBACK)
		load("sd_mod");
	if (mkdir(fabric, 0755) < 0 && errno != EEXIST)
		return vtd_helper_answer(-EOPNOTSUPP, "no LIO fabric %s: %s (the kernel's module %s)",
					 vtd_lio_fabric_to_text(port->fabric), strerror(errno),
					 vtd_lio_module_of(port->fabric));
	return 0;
}

/* ---- where the disk is found -------------------------------------------------------------- */

/* "/dev/sda" of a LUN of the fabric loopback. False: the kernel has not found it, or it is no disk of this host. */
static bool disk_of(const char *port_path, unsigned lun, char *ret, size_t room)
{
	char address[32], pattern[128];
	glob_t names = { 0 };

	if (!vtd_lio_scsi_address(port_path, lun, address))
		return false;
	snprintf(pattern, sizeof(pattern), "/sys/bus/scsi/devices/%s/block/*", address);
	bool is_there = glob(pattern, 0, NULL, &names) == 0 && names.gl_pathc > 0;
	if (is_there)
		snprintf(ret, room, "/dev/%s", strrchr(names.gl_pathv[0], '/') + 1);
	globfree(&names);
	return is_there;
}

static int answer_place(const struct vtd_lio_port *port, unsigned lun)
{
	char path[PATH_MAX], device[128];

	if (port->fabric != VTD_LIO_LOOPBACK)
		return vtd_helper_answer(0, "%s/lun%u", port->wwn, lun);
	vtd_lio_port_path(port, path);
	for (int i = 0; i < DISK_PATIENCE_MS / 20; i++) {
		if (disk_of(path, lun, device, sizeof(device)))
			return vtd_helper_answer(0, "%s", device);
		poll(NULL, 0, 20);
	}
	return vtd_helper_answer(0, "%s/lun%u", port->wwn, lun);
}

/* ---- serve -------------------------------------------------------------------------------- */

struct wanted {
	const char *device, *sequence, *name, *serial;
	bool read_only;
	struct vtd_lio_port port;
	unsigned lun;
	const char *client;
};

static int is_this(const char *link, void *ctx)
{
	return strcmp(link, ctx) == 0;
}

static bool is_served(const struct wanted *w)
{
	char store[PATH_MAX], path[PATH_MAX], link[PATH_MAX + NAME_MAX];

	if (!vtd_lio_find_store(w->device, store))
		return false;
	vtd_lio_port_path(&w->port, path);
	snprintf(link, sizeof(link), "%s/lun/lun_%u/%s", path, w->lun, w->name);
	return vtd_lio_each_lun(store, is_this, link) == 1;
}

static int make(const struct wanted *w, char step[PATH_MAX])
{
	char store[PATH_MAX];
	int rc = vtd_lio_release(w->device, step); /* what somebody did not finish */

	if (rc == 0)
		rc = vtd_lio_make_store(w->device, w->name, w->serial, w->read_only, store, step);
	if (rc == 0)
		rc = vtd_lio_make_port(&w->port, w->client, step);
	if (rc == 0)
		rc = vtd_lio_make_lun(&w->port, store, w->lun, w->read_only, step);
	return rc;
}

int vtd_lio_serve(int argc, char *argv[])
{
	char step[PATH_MAX] = "", ignored[PATH_MAX];
	struct base_error err;
	struct wanted w;

	if (argc != 8)
		return vtd_helper_answer(-EINVAL, "wrong words");
	w = (struct wanted){ .device = argv[0], .sequence = argv[1], .name = argv[2], .serial = argv[3],
			     .read_only = strcmp(argv[4], "ro") == 0, .client = argv[7],
			     .lun = (unsigned)strtoul(argv[6], NULL, 10) };
	if (vtd_lio_port_parse(argv[5], &w.port, &err) < 0)
		return vtd_helper_answer(err.code, "%s", err.text);
	if (!has_sequence(w.device, w.sequence))
		return vtd_helper_answer(-ENXIO, "%s was detached", w.device);
	int rc = need_target(&w.port);
	if (rc != 0)
		return rc;
	rc = is_served(&w) ? 0 : make(&w, step);
	if (rc < 0) {
		if (vtd_lio_release(w.device, ignored) == 0)
			vtd_lio_drop_port(&w.port, w.client);
		return vtd_helper_answer(rc, "%s: %s", step, strerror(-rc));
	}
	return answer_place(&w.port, w.lun);
}

/* ---- who uses it -------------------------------------------------------------------------- */

struct use {
	char who[256]; /* "" = nobody */
	int disk_fd;   /* the exclusive open, or -1 */
};

/* By the names of open files alone: asking the files themselves could wait for anybody. */
static bool find_opener(const char *device, char *ret, size_t room)
{
	glob_t names = { 0 };
	char path[PATH_MAX];
	bool found = false;

	if (glob("/proc/[0-9]*/fd/*", GLOB_NOSORT, NULL, &names) == 0)
		for (size_t i = 0; i < names.gl_pathc && !found; i++) {
			ssize_t n = readlink(names.gl_pathv[i], path, sizeof(path) - 1);
			path[MAX(n, 0)] = '\0';
			found = n > 0 && strcmp(path, device) == 0;
			if (found)
				snprintf(ret, room, "process %d has %s open",
					 atoi(names.gl_pathv[i] + strlen("/proc/")), device);
		}
	globfree(&names);
	return found;
}

static void look_at_disk(const char *device, struct use *use)
{
	if (find_opener(device, use->who, sizeof(use->who)))
		return;
	use->disk_fd = open(device, O_RDONLY | O_NONBLOCK | O_EXCL | O_CLOEXEC);
	if (use->disk_fd < 0 && errno == EBUSY)
		snprintf(use->who, sizeof(use->who), "%s is mounted, or held by another device", device);
}

static int look_at_acl(const char *path, void *ctx)
{
	struct use *use = ctx;
	char line[128];

	if (!vtd_lio_get(path, "info", line, sizeof(line)) || strncmp(line, "No active", 9) == 0)
		return 0;
	snprintf(use->who, sizeof(use->who), "the initiator %.200s is logged in", strrchr(path, '/') + 1);
	return 1;
}

static void look_at_sessions(const char *port_path, struct use *use)
{
	char pattern[PATH_MAX], line[128];
	glob_t names = { 0 };

	snprintf(pattern, sizeof(pattern), "%.3000s/acls/*", port_path);
	if (glob(pattern, 0, NULL, &names) == 0)
		for (size_t i = 0; i < names.gl_pathc; i++)
			if (look_at_acl(names.gl_pathv[i], use))
				break;
	globfree(&names);
	if (!use->who[0] && vtd_lio_get(port_path, "dynamic_sessions", line, sizeof(line)) && line[0])
		snprintf(use->who, sizeof(use->who), "the initiator %.200s is logged in", line);
}

/* The kernel does not say that a guest runs on the port, but then it does not let go of the nexus. */
static void look_at_nexus(const char *port_path, struct use *use)
{
	char nexus[128];

	if (!vtd_lio_get(port_path, "nexus", nexus, sizeof(nexus)))
		return;
	int rc = vtd_lio_put(port_path, "nexus", "NULL");
	if (rc == -EBUSY)
		snprintf(use->who, sizeof(use->who), "a guest runs on the port %.200s", port_path);
	else if (rc == 0)
		(void)!vtd_lio_put(port_path, "nexus", nexus);
}

/* Of one LUN, of whichever port: somebody may have made another by hand. */
static int look_at_lun(const char *link, void *ctx)
{
	struct use *use = ctx;
	const char *at = strstr(link, "/lun/lun_");
	char port[PATH_MAX], device[128];

	if (!at || use->disk_fd >= 0)
		return 0;
	snprintf(port, sizeof(port), "%.*s", (int)(at - link), link);
	if (disk_of(port, (unsigned)strtoul(at + strlen("/lun/lun_"), NULL, 10), device, sizeof(device)))
		look_at_disk(device, use);
	else if (strstr(link, VTD_LIO_TARGET "/vhost/"))
		look_at_nexus(port, use);
	else
		look_at_sessions(port, use);
	return use->who[0] != '\0';
}

/* ---- end ---------------------------------------------------------------------------------- */

int vtd_lio_end(int argc, char *argv[])
{
	struct use use = { .disk_fd = -1 };
	struct vtd_lio_port port;
	struct base_error err;
	char store[PATH_MAX], step[PATH_MAX] = "";

	if (argc != 5)
		return vtd_helper_answer(-EINVAL, "wrong words");
	if (vtd_lio_port_parse(argv[2], &port, &err) < 0)
		return vtd_helper_answer(err.code, "%s", err.text);
	if (!has_sequence(argv[0], argv[1]))
		return vtd_helper_answer(0, "%s", "");
	if (strcmp(argv[4], "force") != 0 && vtd_lio_find_store(argv[0], store) &&
	    vtd_lio_each_lun(store, look_at_lun, &use) != 0)
		return vtd_helper_answer(-EBUSY, "%s", use.who);
	int rc = vtd_lio_release(argv[0], step);
	if (use.disk_fd >= 0)
		close(use.disk_fd);
	if (rc < 0)
		return vtd_helper_answer(rc, "%s: %s", step, strerror(-rc));
	vtd_lio_drop_port(&port, argv[3]);
	return vtd_helper_answer(0, "%s", "");
}

int vtd_lio_rescan(int argc, char *argv[])
{
	char path[PATH_MAX], address[32], directory[128];
	struct vtd_lio_port port;
	struct base_error err;

	if (argc != 2)
		return vtd_helper_answer(-EINVAL, "wrong words");
	if (vtd_lio_port_parse(argv[0], &port, &err) < 0)
		return vtd_helper_answer(err.code, "%s", err.text);
	vtd_lio_port_path(&port, path);
	/* Initiators elsewhere ask for themselves. */
	if (!vtd_lio_scsi_address(path, (unsigned)strtoul(argv[1], NULL, 10), address))
		return vtd_helper_answer(0, "%s", "");
	snprintf(directory, sizeof(directory), "/sys/bus/scsi/devices/%s", address);
	int rc = vtd_lio_put(directory, "rescan", "1");
	return rc < 0 ? vtd_helper_answer(rc, "%s: %s", directory, strerror(-rc)) : vtd_helper_answer(0, "%s", "");
}
