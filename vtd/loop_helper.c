/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The helper's side of loop devices: a process of its own, see run_helper.h.
 *
 * Attach: open the file (the open that was announced), ask for a free number, configure
 * it in one call (LOOP_CONFIGURE, Linux 5.8) with block size, direct I/O and read-only; when somebody else took the
 * number in between, ask again.
 *
 * Detach: LOOP_CLR_FD returns 0 for a device that somebody has open too, and means "when
 * he is gone". That is what force asks for. Without force the device is first opened
 * exclusively, which a mount, LVM and others refuse; and if it turns out that it is still
 * there afterwards, the mark is taken back and the answer is that it is busy.
 *
 * A device is only touched if its sequence number is that of our attachment.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vtd/lio.h"
#include "vtd/loop.h"
#include "vtd/run_helper.h"

#define ATTEMPTS 64
#define GONE_PATIENCE_MS 2000

int vtd_helper_answer(int code, const char *fmt, ...)
{
	va_list args;

	if (code < 0)
		printf("error %d ", -code);
	else
		printf("ok ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	return fflush(stdout) != 0 || code < 0;
}

/* ---- finding it again --------------------------------------------------------------------- */

/* The file's first line without its end. False: there is none. */
static bool read_line(const char *path, char *buf, size_t room)
{
	FILE *file = fopen(path, "re");
	bool got = file && fgets(buf, (int)room, file);

	if (file)
		fclose(file);
	if (got)
		buf[strcspn(buf, "\n")] = '\0';
	return got;
}

uint64_t vtd_loop_sequence(const char *device)
{
	char path[128], line[32];
	const char *name = strrchr(device, '/') ? strrchr(device, '/') + 1 : device;

	snprintf(path, sizeof(path), "/sys/block/%.40s/loop/offset", name);
	if (!read_line(path, line, sizeof(line))) /* nothing is attached */
		return 0;
	snprintf(path, sizeof(path), "/sys/block/%.40s/diskseq", name);
	return read_line(path, line, sizeof(line)) ? strtoull(line, NULL, 10) : 0;
}

bool vtd_loop_boot_id(char ret[40])
{
	return read_line("/proc/sys/kernel/random/boot_id", ret, 40);
}

static bool is_attached(const char *device, const char *sequence)
{
	uint64_t wanted = strtoull(sequence, NULL, 10);

	return wanted != 0 && vtd_loop_sequence(device) == wanted;
}

/* The kernel detaches when the last descriptor is closed, which may be udev's, a moment later. */
static bool wait_gone(const char *device, const char *sequence)
{
	for (int i = 0; i < GONE_PATIENCE_MS / 20; i++) {
		if (!is_attached(device, sequence))
			return true;
		poll(NULL, 0, 20);
	}
	return false;
}

/* ---- attach ------------------------------------------------------------------------------- */

static int configure(int device_fd, int file_fd, unsigned block_bytes, bool read_only)
{
	struct loop_config config = {
		.fd = (uint32_t)file_fd,
		.block_size = block_bytes,
		.info.lo_flags = LO_FLAGS_DIRECT_IO | (read_only ? LO_FLAGS_READ_ONLY : 0u),
	};

	return ioctl(device_fd, LOOP_CONFIGURE, &config) < 0 ? -errno : 0;
}

/* For the mount after a kill. It need not survive the machine, so it is not synced. Return: false: not noted. */
static bool note(const char *path, const char *device, const char *vtd)
{
	char boot[40];
	FILE *list = vtd_loop_boot_id(boot) ? fopen(path, "ae") : NULL;

	if (!list)
		return false;
	if (ftell(list) == 0)
		fprintf(list, "%s\n", boot);
	fprintf(list, "%s %llu %s\n", device + strlen("/dev/"), (unsigned long long)vtd_loop_sequence(device), vtd);
	return fclose(list) == 0;
}

/*
 * The daemon may be killed at any moment. So the device is noted before the daemon is told of it, and given up if there
 * is nobody to tell.
 */
static int finish(int fd, const char *device, char *argv[])
{
	int status = 1;

	if (note(argv[3], device, argv[4]))
		status = vtd_helper_answer(0, "%s", device);
	else
		vtd_helper_answer(-EIO, "%s can't be noted in %s", device, argv[3]);
	if (status != 0)
		(void)!ioctl(fd, LOOP_CLR_FD, 0);
	close(fd);
	return status;
}

/* Return: 0; -EBUSY: somebody else took this number; others answered. */
static int try_number(int number, int file_fd, char *argv[], int *ret_status)
{
	bool read_only = strcmp(argv[2], "ro") == 0;
	char device[32];

	snprintf(device, sizeof(device), "/dev/loop%d", number);
	int fd = open(device, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0) {
		*ret_status = vtd_helper_answer(-errno, "%s can't be opened: %s", device, strerror(errno));
		return 0;
	}
	int rc = configure(fd, file_fd, (unsigned)strtoul(argv[1], NULL, 10), read_only);
	if (rc == 0) {
		*ret_status = finish(fd, device, argv);
		return 0;
	}
	close(fd);
	if (rc == -EBUSY)
		return rc;
	*ret_status = vtd_helper_answer(rc, "%s can't be set up: %s%s", device, strerror(-rc),
						  rc == -ENOTTY || rc == -EINVAL ? " (Linux 5.8 or later is needed)"
										 : "");
	return 0;
}

int vtd_loop_attach(int argc, char *argv[])
{
	int status = 1;

	if (argc != 5)
		return vtd_helper_answer(-EINVAL, "wrong words");
	int file_fd = open(argv[0], (strcmp(argv[2], "ro") == 0 ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (file_fd < 0)
		return vtd_helper_answer(-errno, "%s can't be opened: %s", argv[0], strerror(errno));
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return vtd_helper_answer(-errno, "/dev/loop-control: %s: %s", strerror(errno),
					 errno == ENOENT
						 ? "this kernel has no loop devices, or `modprobe loop` is missing"
						 : "loop devices are root's");
	for (int i = 0; i < ATTEMPTS; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0)
			return vtd_helper_answer(-errno, "there is no free loop device: %s", strerror(errno));
		if (try_number(number, file_fd, argv, &status) == 0)
			return status;
	}
	return vtd_helper_answer(-EBUSY, "others take every free loop device first");
}

/* ---- detach ------------------------------------------------------------------------------- */

static int take_back(const char *device)
{
	struct loop_info64 info;
	int fd = open(device, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0) {
		info.lo_flags &= ~(uint32_t)LO_FLAGS_AUTOCLEAR;
		/* If it can't be, it goes when its user does; it is busy all the same. */
		(void)!ioctl(fd, LOOP_SET_STATUS64, &info);
	}
	if (fd >= 0)
		close(fd);
	return vtd_helper_answer(-EBUSY, "%s is open", device);
}

int vtd_loop_detach(int argc, char *argv[])
{
	if (argc != 3)
		return vtd_helper_answer(-EINVAL, "wrong words");
	bool force = strcmp(argv[2], "force") == 0;
	if (!is_attached(argv[0], argv[1]))
		return vtd_helper_answer(0, "gone"); /* by hand, and the name may be another's now */
	int fd = open(argv[0], O_RDONLY | O_CLOEXEC | (force ? 0 : O_EXCL));
	if (fd < 0)
		return vtd_helper_answer(-errno, "%s: %s", argv[0],
					 errno == EBUSY ? "it is mounted, or held by another device" : strerror(errno));
	int rc = ioctl(fd, LOOP_CLR_FD, 0) < 0 ? -errno : 0;
	close(fd);
	if (rc < 0 && rc != -ENXIO)
		return vtd_helper_answer(rc, "%s can't be detached: %s", argv[0], strerror(-rc));
	if (force)
		return vtd_helper_answer(0, is_attached(argv[0], argv[1]) ? "later" : "gone");
	return wait_gone(argv[0], argv[1]) ? vtd_helper_answer(0, "gone") : take_back(argv[0]);
}

/* ---- the rest ----------------------------------------------------------------------------- */

int vtd_loop_resize(int argc, char *argv[])
{
	struct statx attributes;

	if (argc != 3)
		return vtd_helper_answer(-EINVAL, "wrong words");
	if (!is_attached(argv[0], argv[1]))
		return vtd_helper_answer(-ENXIO, "%s was detached", argv[0]);
	int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vtd_helper_answer(-errno, "%s: %s", argv[0], strerror(errno));
	/* The kernel takes the size that it has for the file, so it has to ask for it anew. */
	if (statx(AT_FDCWD, argv[2], AT_STATX_FORCE_SYNC, STATX_SIZE, &attributes) < 0)
		return vtd_helper_answer(-errno, "%s: %s", argv[2], strerror(errno));
	if (ioctl(fd, LOOP_SET_CAPACITY, 0) < 0)
		return vtd_helper_answer(-errno, "%s: %s", argv[0], strerror(errno));
	return vtd_helper_answer(0, "%s", "");
}

/* A device whose file is not there any more answers its last users with errors: it goes when they do. */
static bool clean_one(const char *line, char device[64])
{
	char name[32], sequence[24], step[PATH_MAX];

	if (sscanf(line, "%31s %23s", name, sequence) != 2 || strncmp(name, "loop", 4) != 0 || strchr(name, '/'))
		return false;
	snprintf(device, 64, "/dev/%s", name);
	if (!is_attached(device, sequence))
		return false;
	if (vtd_lio_release(device, step) < 0)
		fprintf(stderr, "%s: the target does not let go of it\n", step);
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	bool cleared = fd >= 0 && ioctl(fd, LOOP_CLR_FD, 0) == 0;
	if (fd >= 0)
		close(fd);
	return cleared;
}

int vtd_loop_clean(int argc, char *argv[])
{
	char devices[VTD_HELPER_ANSWER_BYTES - 8] = "", device[64], line[128], boot[40];

	if (argc != 1)
		return vtd_helper_answer(-EINVAL, "wrong words");
	FILE *list = fopen(argv[0], "re");
	if (!list)
		return vtd_helper_answer(errno == ENOENT ? 0 : -errno, "0");
	bool ours = fgets(line, sizeof(line), list) && vtd_loop_boot_id(boot) &&
		    strncmp(line, boot, strlen(boot)) == 0;
	while (ours && fgets(line, sizeof(line), list)) {
		size_t used = strlen(devices);
		if (clean_one(line, device))
			snprintf(devices + used, sizeof(devices) - used, "%s%s", used ? " " : "", device);
	}
	fclose(list);
	if (unlink(argv[0]) < 0)
		return vtd_helper_answer(-errno, "%s: %s", argv[0], strerror(errno));
	return vtd_helper_answer(0, "%s", devices[0] ? devices : "0");
}

static const struct {
	const char *word;
	int (*run)(int argc, char *argv[]);
} commands[] = {
	{ "loop-attach", vtd_loop_attach },
	{ "loop-detach", vtd_loop_detach },
	{ "loop-resize", vtd_loop_resize },
	{ "loop-sweep", vtd_loop_clean },
	{ "lio-serve", vtd_lio_serve },
	{ "lio-end", vtd_lio_end },
	{ "lio-rescan", vtd_lio_rescan },
};

int vtd_helper_main(int argc, char *argv[])
{
	char go;

	signal(SIGPIPE, SIG_IGN);
	/* Whoever started us announces our pid first. Nobody there: nothing to do. */
	if (read(STDIN_FILENO, &go, 1) != 1)
		return 1;
	for (size_t i = 0; argc > 0 && i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].word, argv[0]) == 0)
			return commands[i].run(argc - 1, argv + 1);
	return vtd_helper_answer(-EINVAL, "no such command");
}
