/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is at a path that is to be a raw backing device, and who has it.
 *
 * All of it is asked from sysfs, /proc and the inode, by device numbers; the thing itself is opened only to look at
 * its first bytes, when it is known not to be ours.
 *
 * Identity: what a name stands for may change with each start of the machine (sda, sdb), or by a cable in another
 * socket. So that no guest gets another's disk, what makes the thing itself is kept: of a disk the name that it
 * carries about (its WWID or serial number), of a file its handle (inode and generation: a file that is replaced by
 * another is another).
 *
 * Ours: a file of the pool's own mount, and a device that lies on one, by loop and device-mapper in any order.
 * Served by us it would wait for us.
 *
 * Failure modes: what sysfs does not tell is not known: a device without any name of its own is known by its kernel
 * name, "name ram0", and that protects from little.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/uuid.h"
#include "iocore/raw.h"
#include "meta/records.h"

/* /sys/dev/block/MAJOR:MINOR/WHAT */
#define SYS_BYTES 160
/* Devices upon devices: more levels than anybody stacks. */
#define STACK_MAX 8

static void sys_path(dev_t device, const char *what, char ret[SYS_BYTES])
{
	snprintf(ret, SYS_BYTES, "/sys/dev/block/%u:%u/%s", major(device), minor(device), what);
}

/* The first line of a file of sysfs, blanks at its ends cut off. False: not there, or empty. */
static bool read_line(const char *path, char *buf, size_t room)
{
	FILE *file = fopen(path, "re");
	bool got = file && fgets(buf, (int)room, file);

	if (file)
		fclose(file);
	if (!got)
		return false;
	size_t end = strlen(buf), start = strspn(buf, " \t\n");
	while (end > start && isspace((unsigned char)buf[end - 1]))
		end--;
	memmove(buf, buf + start, end - start);
	buf[end - start] = '\0';
	return end > start;
}

static bool read_attribute(dev_t device, const char *what, char *buf, size_t room)
{
	char path[SYS_BYTES];

	sys_path(device, what, path);
	return read_line(path, buf, room);
}

static bool parse_device(const char *text, dev_t *ret)
{
	unsigned a, b;

	if (sscanf(text, "%u:%u", &a, &b) != 2)
		return false;
	*ret = makedev(a, b);
	return true;
}

/* The disk that a partition is part of. False: it is no partition. */
static bool find_whole(dev_t device, dev_t *ret)
{
	char text[32];

	return read_attribute(device, "partition", text, sizeof(text)) &&
	       read_attribute(device, "../dev", text, sizeof(text)) && parse_device(text, ret);
}

static void kernel_name(dev_t device, char *buf, size_t room)
{
	char path[SYS_BYTES], target[512];

	sys_path(device, "", path);
	path[strlen(path) - 1] = '\0';
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[MAX(n, 0)] = '\0';
	const char *last = strrchr(target, '/');
	snprintf(buf, room, "%.64s", last ? last + 1 : "?");
}

/* ---- identity ----------------------------------------------------------------------------- */

/* What is too long is cut, with the checksum of the whole behind it. */
static void set_identity(struct ioc_raw_look *look, const char *text)
{
	size_t length = strlen(text);

	if (length <= META_IDENTITY_BYTES_MAX)
		snprintf(look->identity, sizeof(look->identity), "%s", text);
	else
		snprintf(look->identity, sizeof(look->identity), "%.100s #%016" PRIx64, text,
			 base_checksum(text, length));
	for (char *c = look->identity; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '_';
}

static void identify_disk(dev_t device, char *buf, size_t room)
{
	static const struct {
		const char *word, *attribute;
	} names[] = {
		{ "wwid", "wwid" },     { "wwid", "device/wwid" }, { "serial", "serial" },
		{ "serial", "device/serial" }, { "dm", "dm/uuid" },
	};
	char text[1024], at[32] = "0";

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (read_attribute(device, names[i].attribute, text, sizeof(text))) {
			snprintf(buf, room, "%s %s", names[i].word, text);
			return;
		}
	}
	if (read_attribute(device, "loop/backing_file", text, sizeof(text))) {
		(void)read_attribute(device, "loop/offset", at, sizeof(at));
		snprintf(buf, room, "loop %s at %s", text, at);
		return;
	}
	kernel_name(device, text, sizeof(text));
	snprintf(buf, room, "name %s", text);
}

static void identify_device(struct ioc_raw_look *look)
{
	char text[1200], number[16] = "?", start[32] = "?";
	dev_t whole;

	if (!find_whole(look->device, &whole)) {
		identify_disk(look->device, text, sizeof(text));
	} else {
		identify_disk(whole, text, sizeof(text) - 80);
		(void)read_attribute(look->device, "partition", number, sizeof(number));
		(void)read_attribute(look->device, "start", start, sizeof(start));
		size_t used = strlen(text);
		snprintf(text + used, sizeof(text) - used, " part %s at %s", number, start);
	}
	set_identity(look, text);
}

static void identify_file(int fd, struct ioc_raw_look *look)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} h = { .handle.handle_bytes = MAX_HANDLE_SZ };
	char text[2 * MAX_HANDLE_SZ + 32];
	int mount;

	if (name_to_handle_at(fd, "", &h.handle, &mount, AT_EMPTY_PATH) < 0) {
		/* A file system that no handle leads into (overlayfs): the number is all there is. */
		snprintf(text, sizeof(text), "file inode %" PRIu64, (uint64_t)look->inode);
		set_identity(look, text);
		return;
	}
	int used = snprintf(text, sizeof(text), "file %x.", (unsigned)h.handle.handle_type);
	for (unsigned i = 0; i < h.handle.handle_bytes; i++)
		used += snprintf(text + used, sizeof(text) - (size_t)used, "%02x", h.handle.f_handle[i]);
	set_identity(look, text);
}

/* ---- mounts ------------------------------------------------------------------------------- */

struct mount {
	dev_t device;
	char where[1024]; /* as the kernel writes it, blanks as \040 */
};

/* Calls fn for each mount of our namespace until it says true. Return: whether it did. */
static bool each_mount(bool (*fn)(const struct mount *mount, void *ctx), void *ctx)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	struct mount mount;
	char line[8192], device[32];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*u %*u %31s %*s %1023s", device, mount.where) == 2 &&
		    parse_device(device, &mount.device))
			found = fn(&mount, ctx);
	if (file)
		fclose(file);
	return found;
}

struct own {
	const char *mountpoint;
	dev_t device;
};

static bool is_mountpoint(const struct mount *mount, void *ctx)
{
	struct own *own = ctx;

	if (strcmp(mount->where, own->mountpoint) == 0)
		own->device = mount->device; /* the last one is on top */
	return false;
}

static bool lies_in(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(path, directory, length) == 0 && path[length] == '/';
}

static bool is_on_own(dev_t device, const struct own *own, unsigned level);

/* Any of the devices below, as device-mapper and md list them. */
static bool slaves_are_on_own(dev_t device, const struct own *own, unsigned level)
{
	char path[SYS_BYTES], text[32], file[SYS_BYTES + 300];
	struct dirent *entry;
	bool found = false;
	dev_t below;

	sys_path(device, "slaves", path);
	DIR *dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		snprintf(file, sizeof(file), "%s/%.255s/dev", path, entry->d_name);
		if (entry->d_name[0] != '.' && read_line(file, text, sizeof(text)) && parse_device(text, &below))
			found = is_on_own(below, own, level + 1);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* Whether the device's data come out of the mount. */
static bool is_on_own(dev_t device, const struct own *own, unsigned level)
{
	char text[4096];
	dev_t whole;

	if (device == own->device)
		return true;
	if (level > STACK_MAX)
		return false;
	if (find_whole(device, &whole))
		return is_on_own(whole, own, level + 1);
	if (read_attribute(device, "loop/backing_file", text, sizeof(text)))
		return lies_in(text, own->mountpoint);
	return slaves_are_on_own(device, own, level);
}

static int check_not_own(const char *path, const struct ioc_raw_look *look, const char *mountpoint,
			 struct base_error *err)
{
	struct own own = { .mountpoint = mountpoint };

	if (!mountpoint)
		return 0;
	(void)each_mount(is_mountpoint, &own);
	if (look->is_file && own.device != 0 && look->device == own.device)
		return base_error_set(err, -EINVAL, "%s: lies in the pool's own mount; give the disk's name instead",
				      path);
	if (is_on_own(look->device, &own, 0))
		return base_error_set(err, -EINVAL,
				      "%s: lies on a disk of this very pool, so serving it would wait for itself; map "
				      "that disk instead",
				      path);
	return 0;
}

/* ---- looking ------------------------------------------------------------------------------ */

static int look_at(int fd, const char *path, struct ioc_raw_look *look, struct base_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return base_error_set_errno(err, -errno, "%s", path);
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return base_error_set(err, -EINVAL, "%s: neither a block device nor a regular file", path);
	*look = (struct ioc_raw_look){ .is_file = S_ISREG(st.st_mode) };
	look->device = look->is_file ? st.st_dev : st.st_rdev;
	look->inode = look->is_file ? st.st_ino : 0;
	return 0;
}

int ioc_raw_look(const char *path, const char *mountpoint, struct ioc_raw_look *ret, struct base_error *err)
{
	struct ioc_raw_look look;

	if (mountpoint && lies_in(path, mountpoint))
		return base_error_set(err, -EINVAL, "%s: lies in the pool's own mount; give the disk's name instead",
				      path);
	/* O_PATH asks nobody but the directories on the way. */
	int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return base_error_set_errno(err, -errno, "%s", path);
	int rc = look_at(fd, path, &look, err);
	if (rc == 0)
		rc = check_not_own(path, &look, mountpoint, err);
	if (rc == 0 && look.is_file)
		identify_file(fd, &look);
	else if (rc == 0)
		identify_device(&look);
	close(fd);
	if (rc == 0)
		*ret = look;
	return rc;
}

/* ---- who has it --------------------------------------------------------------------------- */

struct seeker {
	const char *path;
	dev_t device;
	struct base_error *err;
};

static bool is_mounted(const struct mount *mount, void *ctx)
{
	struct seeker *seeker = ctx;
	dev_t whole;

	if (mount->device == seeker->device)
		base_error_set(seeker->err, -EBUSY, "%s is mounted on %.200s: unmount it first", seeker->path,
			       mount->where);
	else if (find_whole(mount->device, &whole) && whole == seeker->device)
		base_error_set(seeker->err, -EBUSY, "a partition of %s is mounted on %.200s: unmount it first",
			       seeker->path, mount->where);
	else
		return false;
	return true;
}

/* The first entry of a directory of sysfs. */
static bool first_entry(dev_t device, const char *what, char *buf, size_t room)
{
	char path[SYS_BYTES];
	struct dirent *entry;
	bool found = false;

	sys_path(device, what, path);
	DIR *dir = opendir(path);
	while (dir && !found && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			found = snprintf(buf, room, "%.60s", entry->d_name) > 0;
	if (dir)
		closedir(dir);
	return found;
}

static int check_device_free(const char *path, const struct ioc_raw_look *look, struct base_error *err)
{
	struct base_error found = { 0 };
	struct seeker seeker = { .path = path, .device = look->device, .err = &found };
	char holder[64];

	if (each_mount(is_mounted, &seeker))
		return base_error_set(err, -EBUSY, "%s", found.text);
	if (first_entry(look->device, "holders", holder, sizeof(holder)))
		return base_error_set(err, -EBUSY, "%s is a part of %s: take it out of that first", path, holder);
	return 0;
}

/* A loop device takes no lock on its file. */
static int check_no_loop(const char *path, struct base_error *err)
{
	char *real = realpath(path, NULL), file[4096], attribute[512];
	DIR *dir = real ? opendir("/sys/block") : NULL;
	struct dirent *entry;
	int rc = 0;

	while (dir && rc == 0 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "loop", 4) != 0)
			continue;
		snprintf(attribute, sizeof(attribute), "/sys/block/%.255s/loop/backing_file", entry->d_name);
		if (read_line(attribute, file, sizeof(file)) && strcmp(file, real) == 0)
			rc = base_error_set(err, -EBUSY, "%s is attached to /dev/%.60s: detach it (losetup -d), or "
							 "map that device",
					    path, entry->d_name);
	}
	if (dir)
		closedir(dir);
	free(real);
	return rc;
}

/* ---- what it begins with ------------------------------------------------------------------ */

static const char *guess_format(const uint8_t *head, size_t bytes)
{
	static const struct {
		const char *magic, *name;
		size_t at;
	} formats[] = {
		{ "QFI\xfb", "qcow2", 0 },  { "QED", "qed", 0 },           { "KDMV", "vmdk", 0 },
		{ "vhdxfile", "vhdx", 0 }, { "conectix", "vhd", 0 }, { "<<< ", "vdi", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		size_t length = strlen(formats[i].magic);

		if (formats[i].at + length <= bytes && memcmp(head + formats[i].at, formats[i].magic, length) == 0)
			return formats[i].name;
	}
	return NULL;
}

static int check_no_label(const char *path, const uint8_t *head, size_t bytes, struct base_error *err)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	struct meta_label label;

	if (bytes < META_LABEL_BYTES)
		return 0;
	int rc = meta_label_decode(head, &label);
	if (rc == META_LABEL_NONE)
		return 0;
	if (rc < 0)
		return base_error_set(err, -EBUSY,
				      "%s has the damaged label of a pool's physical volume; if nobody needs that "
				      "pool any more, overwrite its first 4096 bytes",
				      path);
	return base_error_set(err, -EBUSY,
			      "%s is a physical volume of the pool with the UUID %s; if nobody needs that pool any "
			      "more, overwrite its first 4096 bytes",
			      path, base_uuid_to_text(label.pool, uuid));
}

int ioc_raw_check_free(const char *path, const struct ioc_raw_look *look, const char **ret_format,
		       struct base_error *err)
{
	uint8_t head[META_LABEL_BYTES];
	int rc = look->is_file ? check_no_loop(path, err) : check_device_free(path, look, err);

	if (rc < 0)
		return rc;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return base_error_set_errno(err, -errno, "%s", path);
	ssize_t n = pread(fd, head, sizeof(head), 0);
	rc = n < 0 ? base_error_set_errno(err, -errno, "%s can't be read", path) : 0;
	close(fd);
	if (rc == 0)
		rc = check_no_label(path, head, (size_t)n, err);
	if (rc == 0)
		*ret_format = guess_format(head, (size_t)n);
	return rc;
}
