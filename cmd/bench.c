/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: races bdfs on a directory's disk or on a device of the user's.
 *
 * The race itself is bench/run, a program of its own that is installed beside
 * the servers it races against. This verb turns its arguments into that
 * program's, gives it this very command to measure, and hands on the JSON that it
 * writes to a pipe: figures, ratios, versions, and the tables for people as
 * "text". How far it is the program says on standard error.
 *
 * Nothing of any pool of the machine is touched: the race makes pools of its
 * own, with a registry of their own. A device is only read unless
 * -write-data-will-be-lost is given.
 *
 * Happy path: find the program; spawn; read the pipe to its end; wait; parse.
 * Failure modes: the program is not installed (-ENOENT); it ended with an error,
 * whose reason it has written to standard error (-EINVAL for usage, else -EIO).
 * Ctrl-C reaches it as it reaches us; it takes down what it set up, and we wait
 * for that.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/text.h"

#define WORDS_MAX 32
#define WORDS_BYTES (4 * PATH_MAX)
/* Where the program finds the pipe for its JSON. */
#define RESULT_FD 3
#define RESULT_PATH "/dev/fd/3"
#define RESULT_BYTES_MAX (64 * MIB)
#define STATUS_USAGE 2

extern char **environ;

static const struct cmd_option options[] = {
	{ "target", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "DIR|DEVICE",
	  "a directory on the disk to be measured, or a block device" },
	{ "set", NULL, CMD_TEXT, 0, "SET",
	  "what is raced: usual (without this option), aims (what the project's own aims need) or all" },
	{ "only", NULL, CMD_TEXT, 0, "NAME,...", "only these backings, paths and workloads" },
	{ "quick", NULL, CMD_FLAG, 0, NULL, "shows in short that every row runs; not for quoting" },
	{ "rounds", NULL, CMD_NUMBER, 0, "N", "samples of each figure (5); ratios need three" },
	{ "size", NULL, CMD_SIZE, 0, "SIZE", "of every file (1 GiB); a bare number counts megabytes" },
	{ "plot", NULL, CMD_TEXT, 0, "FILE", "draw it too, as SVG, with gnuplot" },
	{ "qsd", NULL, CMD_TEXT, 0, "COMMAND",
	  "the qemu-storage-daemon to race against, if it is another than the system's" },
	{ "write-data-will-be-lost", NULL, CMD_FLAG, 0, NULL,
	  "DEVICE: race writes too, and a pool on it; everything on it is lost" },
	{ 0 },
};

/* The words of the program's command line, in one buffer. */
struct words {
	char *argv[WORDS_MAX];
	unsigned count;
	char bytes[WORDS_BYTES];
	size_t used;
	bool too_long;
};

static void add(struct words *words, const char *word)
{
	size_t room = strlen(word) + 1;

	if (words->count + 1 >= WORDS_MAX || room > sizeof(words->bytes) - words->used) {
		words->too_long = true;
		return;
	}
	words->argv[words->count++] = memcpy(words->bytes + words->used, word, room);
	words->used += room;
}

static void add_text(struct words *words, const json_t *args, const char *name, const char *option)
{
	char text[PATH_MAX];

	if (cmd_arg_text(args, name, text, sizeof(text), NULL) == 0) {
		add(words, option);
		add(words, text);
	}
}

static int add_size(struct words *words, const json_t *args, struct base_error *err)
{
	struct base_size size;
	char text[32];
	if (cmd_arg_size(args, "size", &size) == CMD_ARG_ABSENT)
		return 0;
	if (size.is_increment || size.bytes < MIB || size.bytes % MIB)
		return base_error_set(err, -EINVAL, "-size: a whole number of megabytes, and no increment");
	snprintf(text, sizeof(text), "%lluM", (unsigned long long)(size.bytes / MIB));
	add(words, "--size");
	add(words, text);
	return 0;
}

static int add_all(struct words *words, const json_t *args, const char *program, const char *self,
		   struct base_error *err)
{
	char target[PATH_MAX], rounds[32];
	int r = cmd_arg_text(args, "target", target, sizeof(target), err);

	if (r < 0)
		return r;
	add(words, program);
	add(words, "--bdfs");
	add(words, self);
	add(words, "--json");
	add(words, RESULT_PATH);
	add_text(words, args, "set", "--set");
	add_text(words, args, "only", "--only");
	add_text(words, args, "plot", "--plot");
	add_text(words, args, "qsd", "--qsd");
	if (cmd_arg_is_set(args, "rounds")) {
		snprintf(rounds, sizeof(rounds), "%lld", (long long)cmd_arg_number(args, "rounds", 0));
		add(words, "--rounds");
		add(words, rounds);
	}
	if (cmd_arg_flag(args, "quick"))
		add(words, "--quick");
	if (cmd_arg_flag(args, "write-data-will-be-lost"))
		add(words, "--write-data-will-be-lost");
	r = add_size(words, args, err);
	add(words, "--");
	add(words, target);
	if (r == 0 && words->too_long)
		r = base_error_set(err, -EINVAL, "the arguments are too long");
	return r;
}

/* This command, and the race that belongs to it: in a build directory that of the build, else the installed one. */
static int find_programs(char self[PATH_MAX], char program[PATH_MAX], struct base_error *err)
{
	ssize_t length = readlink("/proc/self/exe", self, PATH_MAX - 1);

	if (length < 0)
		return base_error_set_errno(err, -errno, "can't tell where this command is");
	self[length] = '\0';

	const char *slash = strrchr(self, '/');
	int directory = slash ? (int)(slash - self) : 0;

	if (directory >= 4 && strncmp(slash - 4, "/cli", 4) == 0) {
		int r = snprintf(program, PATH_MAX, "%.*s/../bench/run", directory, self);

		if (r < PATH_MAX && access(program, X_OK) == 0)
			return 0;
	}
	snprintf(program, PATH_MAX, "%s", BDFS_BENCH_DIR "/run");
	if (access(program, X_OK) < 0)
		return base_error_set_errno(err, -errno, "%s, which runs the race, is not installed", program);
	return 0;
}

static int spawn(struct words *words, int result_fd, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	int r;

	posix_spawn_file_actions_init(&files);
	/* Its tables are in the JSON too. */
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&files, result_fd, RESULT_FD);
	r = -posix_spawn(ret, words->argv[0], &files, NULL, words->argv, environ);
	posix_spawn_file_actions_destroy(&files);
	return r;
}

/* To the end of the pipe. NULL: no memory, or more than a race has to say. */
static char *read_all(int fd, size_t *ret_bytes)
{
	size_t used = 0, room = 0;
	char *text = NULL;

	for (;;) {
		if (used == room) {
			room = MAX(2 * room, 64 * KIB);

			char *grown = room <= RESULT_BYTES_MAX ? realloc(text, room) : NULL;

			if (!grown)
				break;
			text = grown;
		}

		ssize_t n = read(fd, text + used, room - used);

		if (n < 0 && errno == EINTR)
			continue; /* Ctrl-C: the program ends by itself */
		if (n <= 0) {
			*ret_bytes = used;
			return text;
		}
		used += (size_t)n;
	}
	free(text);
	return NULL;
}

static int status_of(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

static int take_result(const char *text, size_t bytes, int status, json_t **ret_result, struct base_error *err)
{
	if (status == STATUS_USAGE)
		return base_error_set(err, -EINVAL, "the race was not begun; see above");
	if (status != 0)
		return base_error_set(err, -EIO, "the race did not come to its end; see above");
	*ret_result = text ? json_loadb(text, bytes, 0, NULL) : NULL;
	return *ret_result ? 0 : base_error_set(err, -EIO, "the race has told nothing that can be read");
}

static int run_race(struct words *words, json_t **ret_result, struct base_error *err)
{
	int pipe_fds[2];
	size_t bytes = 0;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return base_error_set_errno(err, -errno, "can't make a pipe");

	int r = spawn(words, pipe_fds[1], &pid);

	close(pipe_fds[1]);
	if (r < 0) {
		close(pipe_fds[0]);
		return base_error_set_errno(err, r, "can't start %s", words->argv[0]);
	}

	char *text = read_all(pipe_fds[0], &bytes);

	close(pipe_fds[0]);
	r = take_result(text, bytes, status_of(pid), ret_result, err);
	free(text);
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char self[PATH_MAX], program[PATH_MAX];
	struct words *words = calloc(1, sizeof(*words));
	int r = words ? find_programs(self, program, err) : base_error_set(err, -ENOMEM, "out of memory");

	if (r == 0)
		r = add_all(words, args, program, self, err);
	if (r == 0)
		r = run_race(words, ret_result, err);
	free(words);
	return r;
}

const struct cmd_verb cmd_bench = {
	.name = "bench",
	.summary = "race bdfs on a disk of this machine",
	.synopsis = "bdfs bench DIR|DEVICE [-set SET] [-only NAME,...] [-quick] [-rounds N] [-size SIZE]\n"
		    "                      [-plot FILE] [-qsd COMMAND] [-write-data-will-be-lost]",
	.about = "Measures bdfs beside what it has to be compared with, in one run: the raw file or device, the floor "
		 "of FUSE, a plain pass-through, a loop device, and other programs where they are installed. Prints "
		 "throughput, ratios, processor time and latency; a ratio is refused where the figures moved too much. "
		 "Needs root, fio and python3, and a machine that does nothing else.\n"
		 "In DIR, files of several times -size are made and removed again. A DEVICE is only read, unless "
		 "-write-data-will-be-lost is given.",
	.examples = "bdfs bench /var/lib/bdfs\n"
		    "bdfs bench /dev/nvme1n1 -rounds 7 --json > race.json\n"
		    "bdfs bench /dev/sdx -write-data-will-be-lost -plot race.svg",
	.options = options,
	.local = local,
};
