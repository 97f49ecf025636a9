# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A memory cgroup for a case, of version 2, or of version 1 where the memory controller is bound to that. Sourced after
# functions.sh.

CGROUP= # its directory
cgroup_version=
cgroup_parent=

# Finds where groups can be made; mounts version 2 where nobody has.
need_memory_cgroup()
{
	local at
	at=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2; exit }' /proc/mounts)
	if [ -n "$at" ]; then
		cgroup_version=1
		cgroup_parent=$at$(awk -F: '$2 ~ /(^|,)memory(,|$)/ { print $3 }' /proc/self/cgroup)
		[ -w "$cgroup_parent" ] || cgroup_parent=$at
	else
		cgroup_version=2
		at=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
		if [ -z "$at" ]; then
			at=$SCRATCH/cgroup2
			mkdir "$at"
			mount -t cgroup2 none "$at" 2>/dev/null || skip "this kernel has no memory cgroups"
			at_exit umount "$at"
		fi
		grep -qw memory "$at/cgroup.subtree_control" 2>/dev/null ||
			echo +memory 2>/dev/null >"$at/cgroup.subtree_control" || skip "this kernel has no memory cgroups"
		cgroup_parent=$at # only the root may have groups and processes beside each other
	fi
	[ -w "$cgroup_parent" ] || skip "memory cgroups can't be made here"
}

# cgroup_make MIB
cgroup_make()
{
	CGROUP=$cgroup_parent/bdfs-$(basename "$SCRATCH")
	mkdir "$CGROUP" 2>/dev/null || skip "memory cgroups can't be made here"
	at_exit cgroup_remove
	if [ "$cgroup_version" = 1 ]; then
		# Swap would be a way around the limit. (A limit of both together would do too, but then nothing is counted.)
		echo 0 >"$CGROUP/memory.swappiness"
	else
		echo 0 >"$CGROUP/memory.swap.max" 2>/dev/null || true
	fi
	cgroup_limit "$1"
}

# cgroup_limit MIB
cgroup_limit()
{
	if [ "$cgroup_version" = 1 ]; then
		echo "$1M" >"$CGROUP/memory.limit_in_bytes"
	else
		echo "$1M" >"$CGROUP/memory.max"
	fi
	echo "memory cgroup of version $cgroup_version, $1 MiB"
}

# A daemon that was not stopped goes to the parent; it is the case's to stop it.
cgroup_remove()
{
	local pid
	[ -d "$CGROUP" ] || return 0
	while read -r pid; do
		echo "$pid" >"$cgroup_parent/cgroup.procs" 2>/dev/null || true
	done <"$CGROUP/cgroup.procs"
	wait_until 10 rmdir "$CGROUP" 2>/dev/null || echo "$CGROUP is left over"
}

# The (sub)shell that calls it, and all that it starts from then on.
cgroup_enter()
{
	echo "$BASHPID" >"$CGROUP/cgroup.procs"
}

cgroup_limit_hits()
{
	if [ "$cgroup_version" = 1 ]; then
		cat "$CGROUP/memory.failcnt"
	else
		awk '$1 == "max" { print $2 }' "$CGROUP/memory.events"
	fi
}

cgroup_oom_kills()
{
	if [ "$cgroup_version" = 1 ]; then
		awk '$1 == "oom_kill" { print $2 }' "$CGROUP/memory.oom_control"
	else
		awk '$1 == "oom_kill" { print $2 }' "$CGROUP/memory.events"
	fi
}
