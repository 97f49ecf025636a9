#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the cases share. A case sources this file first:
#
#     . "$(dirname "$0")/functions.sh"
#
# and then has:
#   BDFS, EXERCISER   the programs under test (set by tests/run-cases; else from build/)
#   SCRATCH           a directory of its own; MNT a mount point in it; POOL the pool's name
#   BDFS_STATE_DIR    in SCRATCH: the case sees no pool but its own
#
# A case ends with 0 (passed), 77 after skip(), or anything else (failed). What was set up is
# taken down in reverse order whatever happens: at_exit. Only processes that the case started are
# ended, each by its pid. Nothing sleeps to let something happen: wait_until has a deadline.

set -euo pipefail

case_name=$(basename "$0")
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${BDFS_BUILD:=$source_dir/build}"
: "${BDFS:=$BDFS_BUILD/cli/bdfs}"
: "${EXERCISER:=$BDFS_BUILD/tests/exerciser/exerciser}"
SCRATCH=$(mktemp -d "${TMPDIR:-/var/tmp}/$case_name.XXXXXX")
MNT=$SCRATCH/mnt
POOL=p
PV=$SCRATCH/pool/pv0 # the pool's first pv: by its lock the daemon is found
ENGINE=uring
QUEUES=2
export BDFS_STATE_DIR=$SCRATCH/state
export LC_ALL=C.UTF-8
mkdir "$MNT"

# ---- ending ------------------------------------------------------------------------------------

exit_actions=()

# Runs the words given when the case ends; the last registered runs first.
at_exit()
{
	exit_actions+=("$(printf '%q ' "$@")")
}

run_exit_actions()
{
	local status=$? i
	trap - EXIT INT TERM ERR
	set +e
	if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
		echo "--- $case_name: status $status"
		pool_log
	fi
	for ((i = ${#exit_actions[@]} - 1; i >= 0; i--)); do
		eval "${exit_actions[i]}"
	done
	exit "$status"
}
trap run_exit_actions EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Never crosses into a mount: a pool that could not be unmounted loses nothing.
at_exit rm -rf --one-file-system "$SCRATCH"

skip()
{
	echo "SKIP: $*"
	exit 77
}

fail()
{
	echo "FAILED: $*"
	exit 1
}

step()
{
	echo "== $*"
}

# The trap assigns it itself.
# shellcheck disable=SC2154
trap 'err_status=$?; echo "line $LINENO of ${BASH_SOURCE[0]##*/}: $BASH_COMMAND: status $err_status"' ERR
set -E

# ---- what a case needs -------------------------------------------------------------------------

need_root()
{
	[ "$(id -u)" -eq 0 ] || skip "needs root"
}

need_command()
{
	local name
	for name; do
		command -v "$name" >/dev/null || skip "needs $name"
	done
}

need_filesystem()
{
	grep -qw "$1" /proc/filesystems || modprobe "$1" 2>/dev/null || skip "this kernel has no $1"
}

# ---- checking ----------------------------------------------------------------------------------

# wait_until SECONDS WORDS...: until the words succeed; fails when they have not by then.
wait_until()
{
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# expect STATUS TEXT WORDS...: the words end with that status (or "fail": any but 0), and say TEXT
# (a basic regular expression) on stdout or stderr.
expect()
{
	local want=$1 text=$2 status=0
	shift 2
	"$@" >"$SCRATCH/said" 2>&1 || status=$?
	sed 's/^/    /' "$SCRATCH/said"
	if [ "$want" = fail ]; then
		[ "$status" -ne 0 ] || fail "$*: succeeded, and should not have"
		[ "$status" -lt 125 ] || fail "$*: ended with status $status: a signal, or not found"
	else
		[ "$status" -eq "$want" ] || fail "$*: status $status, expected $want"
	fi
	grep -q -- "$text" "$SCRATCH/said" || fail "$*: said nothing like '$text'"
}

# json FILE-OR-- EXPRESSION: prints the value of a Python expression over the document d.
json()
{
	python3 -c 'import json, sys
d = json.load(sys.stdin if sys.argv[1] == "-" else open(sys.argv[1]))
print(eval(sys.argv[2]))' "$1" "$2"
}

bytes_on_host()
{
	echo $(($(stat -c %b "$1") * 512))
}

# ---- a pool ------------------------------------------------------------------------------------

# pool_make SIZE: the pool POOL in SCRATCH/pool, of one file.
pool_make()
{
	"$BDFS" mksp "$POOL" -size "$1" "$SCRATCH/pool"
}

# Mounts POOL at MNT; further words are options of bdfs mount.
pool_mount()
{
	"$BDFS" mount "$POOL" "$MNT" --engine "$ENGINE" --queues "$QUEUES" "$@"
	mountpoint -q "$MNT" || fail "bdfs mount succeeded, and $MNT is no mount point"
	daemon_pid=$(pool_pid)
	[ -n "$daemon_pid" ] || fail "nobody holds the pool after bdfs mount"
	echo "mounted: engine $ENGINE, $QUEUES queues, pid $daemon_pid"
}

# Unmounts and waits for the daemon's end.
pool_umount()
{
	"$BDFS" umount "$MNT"
	wait_until 30 daemon_gone || fail "daemon $daemon_pid is there 30 s after umount"
}

# process_gone PID: it has ended; who started it, or init, may be yet to ask how. It holds nothing then: its files are
# closed before its last thread is gone.
process_gone()
{
	local threads
	! kill -0 "$1" 2>/dev/null ||
		{ threads=("/proc/$1/task/"*) && [ "${#threads[@]}" -le 1 ] &&
			grep -qs '^State:[[:space:]]*[ZX]' "/proc/$1/status"; }
}

daemon_gone()
{
	process_gone "$daemon_pid"
}

# The pid that has the pool's first pv locked, from the kernel's table of locks; empty when nobody has.
pool_pid()
{
	local inode
	inode=$(stat -L -c %i "$PV" 2>/dev/null) || return 0
	awk -v inode="$inode" '$2 == "FLOCK" { split($6, at, ":"); if (at[3] == inode) { print $5; exit } }' /proc/locks
}

# kill -9 of the daemon, and nothing else; the mount stays behind, dead.
pool_kill()
{
	kill -9 "$daemon_pid"
	wait_until 30 daemon_gone || fail "daemon $daemon_pid survived kill -9"
}

# Takes everything down at the end of a case; registered before the first mount.
pool_down()
{
	mountpoint -q "$MNT" || stat "$MNT" >/dev/null 2>&1 || true
	"$BDFS" umount "$MNT" >/dev/null 2>&1 || umount -l "$MNT" >/dev/null 2>&1 || true
	if [ -n "${daemon_pid:-}" ] && ! wait_until 10 daemon_gone; then
		kill -9 "$daemon_pid" 2>/dev/null || true
	fi
}
at_exit pool_down

pool_log()
{
	if [ -s "$SCRATCH/pool/log" ]; then
		echo "--- end of the daemon's log:"
		tail -n 15 "$SCRATCH/pool/log"
	fi
}

# check finds nothing wrong, live or offline.
pool_check()
{
	"$BDFS" check -sp "$POOL" >"$SCRATCH/check.out" 2>&1 || {
		cat "$SCRATCH/check.out"
		fail "bdfs check: not clean"
	}
}

# make_disk NAME SIZE
make_disk()
{
	"$BDFS" mkbdsp -sp "$POOL" "$2" -bd "$1" >/dev/null
}

# Free bytes of the pool, as the mount tells.
pool_free_bytes()
{
	stat -f -c '%f * %S' "$MNT" | { read -r words; echo $((words)); }
}

# ---- loop devices ------------------------------------------------------------------------------

# loop_attach FILE on|off: prints the device. on = direct I/O. The caller detaches, or at_exit does.
loop_attach()
{
	losetup --find --show --direct-io="$2" "$1"
}

# Safe to call for a device that is detached already, or taken by somebody else since.
loop_detach()
{
	local device=$1 file=$2
	if losetup -n -O BACK-FILE "$device" 2>/dev/null | grep -qF "$file"; then
		losetup -d "$device"
	fi
}

# ---- load --------------------------------------------------------------------------------------

# fio_verify FILE SECTIONS...: one fio run; its output only when it fails.
fio_verify()
{
	local file=$1
	shift
	fio --name=verify --filename="$file" --ioengine=io_uring --iodepth=32 --bsrange=512-1M --blockalign=512 \
		--rw=randwrite --verify=crc32c --verify_fatal=1 --do_verify=1 --group_reporting "$@" \
		>"$SCRATCH/fio.out" 2>&1 || {
		tail -n 30 "$SCRATCH/fio.out"
		fail "fio: $*"
	}
}
