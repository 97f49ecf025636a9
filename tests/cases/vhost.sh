#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the vhost-user cases share, beside functions.sh: a server for disks without verbs
# (tests/vhost/vhostd), and guests of User-mode Linux. A case sources this after functions.sh.

VHOST_DIR=$BDFS_BUILD/tests/vhost
vhost_pid=

# vhost_start DISK...: serves SCRATCH/pool; DISK is NAME:BYTES:SOCKET[:OPTION]..., as vhostd has it.
vhost_start()
{
	[ -p "$SCRATCH/commands" ] || mkfifo "$SCRATCH/commands"
	: >"$SCRATCH/answers"
	exec {vhost_commands}<>"$SCRATCH/commands"
	"$VHOST_DIR/vhostd" "$SCRATCH" "${VHOST_POOL_SIZE:-1G}" "$ENGINE" "$QUEUES" "$@" \
		<"$SCRATCH/commands" >>"$SCRATCH/answers" 2>>"$SCRATCH/vhost.log" &
	vhost_pid=$!
	wait_until 30 vhost_is_ready || { tail -n 20 "$SCRATCH/vhost.log"; fail "vhostd does not come up"; }
}

vhost_is_ready()
{
	grep -q '^ready' "$SCRATCH/answers" && return 0
	kill -0 "$vhost_pid" 2>/dev/null || fail "vhostd is gone: $(tail -n 3 "$SCRATCH/vhost.log")"
	return 1
}

# vhost_ask WORDS...: one command of vhostd; prints its answer.
vhost_ask()
{
	local lines
	lines=$(wc -l <"$SCRATCH/answers")
	echo "$*" >&"$vhost_commands"
	wait_until 30 vhost_answered "$lines" || fail "vhostd does not answer: $*"
	tail -n 1 "$SCRATCH/answers"
}

vhost_answered()
{
	[ "$(wc -l <"$SCRATCH/answers")" -gt "$1" ]
}

# vhost_field FIELD NAME: of "info NAME".
vhost_field()
{
	vhost_ask info "$2" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

vhost_kill()
{
	kill -9 "$vhost_pid"
	wait "$vhost_pid" 2>/dev/null || true
	vhost_pid=
}

# In order; anything but a clean end fails the case.
vhost_stop()
{
	local status=0
	kill -TERM "$vhost_pid"
	wait "$vhost_pid" || status=$?
	vhost_pid=
	[ "$status" -eq 0 ] || { tail -n 20 "$SCRATCH/vhost.log"; fail "vhostd ended with status $status"; }
}

vhost_down()
{
	[ -z "$vhost_pid" ] || kill -9 "$vhost_pid" 2>/dev/null
	for pid in "${guests[@]}"; do
		kill -9 -- "-$pid" 2>/dev/null
	done
	# The log is worth more than the pool's, which there is none of.
	[ ! -s "$SCRATCH/vhost.log" ] || tail -n 5 "$SCRATCH/vhost.log"
}
guests=()
at_exit vhost_down

# ---- User-mode Linux ---------------------------------------------------------------------------

need_uml()
{
	need_command linux.uml
	UML_MODULES=$(echo /usr/lib/uml/modules/*)
	[ -e "$UML_MODULES/kernel/drivers/block/virtio_blk.ko" ] || skip "needs the modules of user-mode-linux"
}

# guest_start NAME SOCKET...: the function guest_NAME of the case runs as init of a Linux whose root is the
# host's own file tree, with a disk /dev/vdX for each socket. It must leave nothing mounted.
guest_start()
{
	local name=$1 disks=() socket
	shift
	for socket; do
		disks+=("virtio_uml.device=$socket:2")
	done
	{
		echo '#!/bin/bash'
		echo 'export PATH=/usr/sbin:/usr/bin:/sbin:/bin'
		echo 'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev'
		printf 'exec >%q 2>&1\n' "$SCRATCH/guest.$name"
		printf 'SCRATCH=%q\nsource_dir=%q\n' "$SCRATCH" "${source_dir:?}"
		printf 'insmod %q\n' "$UML_MODULES/kernel/drivers/block/virtio_blk.ko"
		echo 'mount -t tmpfs tmpfs /mnt && mkdir /mnt/a /mnt/b'
		declare -f "guest_$name"
		echo "set -ex; (guest_$name) && echo guest is content"
		echo 'halt -f -p 2>/dev/null || reboot -f -p'
	} >"$SCRATCH/init.$name"
	chmod +x "$SCRATCH/init.$name"
	: >"$SCRATCH/guest.$name"
	setsid timeout -s KILL "${GUEST_SECONDS:-90}" linux.uml mem=256M root=/dev/root rootfstype=hostfs rootflags=/ rw \
		init="$SCRATCH/init.$name" "${disks[@]}" con=null con0=null </dev/null >"$SCRATCH/uml.$name" 2>&1 &
	guests+=($!)
}

# guest_wait NAME PID: the guest is off, and was content.
guest_wait()
{
	wait "$2" || true
	# What it has forked stays, traced, when it is killed.
	kill -9 -- "-$2" 2>/dev/null || true
	grep -q '^guest is content' "$SCRATCH/guest.$1" || {
		tail -n 30 "$SCRATCH/guest.$1" "$SCRATCH/uml.$1"
		fail "guest $1 is not content"
	}
}
