# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Cases that need more of the kernel than the machine has run in a User-mode Linux. Sourced after functions.sh.

uml_pid=
uml_down()
{
	[ -z "$uml_pid" ] || kill -9 -- "-$uml_pid" 2>/dev/null || true
}

# run_in_uml SIZE SECONDS: runs this case anew, as root of a Linux whose root is this machine's file tree, read-only,
# with a disk of that size for TMPDIR, and ends as it ends. There the variable IN_UML is "yes".
run_in_uml()
{
	local status modules
	need_root
	need_command linux.uml mkfs.ext4 setsid
	modules=$(echo /usr/lib/uml/modules/*)
	[ -d "$modules" ] || skip "needs linux.uml with its modules"
	truncate -s "$1" "$SCRATCH/uml.disk"
	mkfs.ext4 -q -F "$SCRATCH/uml.disk"
	{
		echo '#!/bin/bash'
		echo 'mount -t proc proc /proc; mount -t sysfs sys /sys; mountpoint -q /dev || mount -t devtmpfs dev /dev'
		# User-mode Linux 6.12 (Debian 13) panics when a process with a ring of io_uring ends; 6.1 has no such switch.
		echo 'echo 2 >/proc/sys/kernel/io_uring_disabled 2>/dev/null'
		echo 'mkdir -p /dev/shm /dev/pts; mount -t tmpfs run /run; mount -t tmpfs shm /dev/shm'
		# Sources and build may lie in /tmp.
		echo 'mkdir -p /run/lock /run/source /run/build'
		printf 'source=%q build=%q\n' "${source_dir:?}" "$BDFS_BUILD"
		echo 'mount --bind "$source" /run/source; mount --bind "$build" /run/build; mount -t tmpfs tmp /tmp'
		echo 'mkdir -p "$source"; mount --bind /run/source "$source"'
		echo 'mkdir -p "$build"; mount --bind /run/build "$build"'
		echo 'mkdir -p /tmp/disk /tmp/modules/lib/modules'
		printf 'ln -s %q /tmp/modules/lib/modules/\n' "$modules"
		echo 'mount -t ext4 /dev/ubda /tmp/disk || echo "no disk in the guest"'
		echo 'ip link set lo up 2>/dev/null'
		echo 'export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp/disk IN_UML=yes LC_ALL=C.UTF-8'
		echo 'export MODPROBE_OPTIONS="-d /tmp/modules"'
		printf 'export BDFS=%q BDFS_BUILD=%q EXERCISER=%q\n' "$BDFS" "$BDFS_BUILD" "$EXERCISER"
		echo 'for m in fuse loop; do modprobe -q $m; done'
		printf '%q; echo "CASE ENDED $?"\n' "${source_dir:?}/tests/cases/${case_name:?}"
		echo 'sync; echo o >/proc/sysrq-trigger; sleep 60'
	} >"$SCRATCH/uml.init"
	chmod +x "$SCRATCH/uml.init"
	: >"$SCRATCH/console"
	at_exit uml_down
	TMPDIR=$SCRATCH setsid timeout -s KILL "$2" linux.uml mem=320M root=/dev/root rootfstype=hostfs rootflags=/ ro \
		"ubd0=$SCRATCH/uml.disk" con=null con0=null,fd:1 quiet "init=$SCRATCH/uml.init" \
		</dev/null >"$SCRATCH/console" 2>&1 &
	uml_pid=$!
	wait "$uml_pid" || true
	kill -9 -- "-$uml_pid" 2>/dev/null || true # what it has forked stays, traced
	uml_pid=
	tr -d '\r' <"$SCRATCH/console"
	status=$(tr -d '\r' <"$SCRATCH/console" | sed -n 's/^CASE ENDED //p' | tail -n 1)
	[ -n "$status" ] || fail "the guest did not get to the end in $2 s"
	[ "$status" -ne 77 ] || skip "in the guest: $(tr -d '\r' <"$SCRATCH/console" | sed -n 's/^SKIP: //p' | tail -n 1)"
	[ "$status" -eq 0 ] || fail "in the guest: status $status"
	exit 0
}
