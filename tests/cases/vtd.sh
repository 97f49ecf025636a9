# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the cases of virtual target devices share. Sourced after functions.sh.

export BDFS_RUN_DIR=$SCRATCH/run

# The loop devices that hold a file of this case; taken away at its end whatever it did.
vtd_loops()
{
	losetup -n -O NAME,BACK-FILE | awk -v file="$MNT/" 'index($2, file) == 1 { print $1 }'
}

vtd_down()
{
	local device
	for device in $(vtd_loops); do
		umount "$device" 2>/dev/null || true
		losetup -d "$device" 2>/dev/null || true
	done
}

need_loop()
{
	need_root
	need_command losetup
	[ -e /dev/loop-control ] || skip "this kernel has no loop devices"
	at_exit vtd_down
}

# map_loop DISK OPTIONS...: maps it and sets $vtd and $device.
map_loop()
{
	local disk=$1
	shift
	"$BDFS" mkvdev -sp "$POOL" -vdev "$disk" -vadapter loop "$@" >"$SCRATCH/mapped"
	cat "$SCRATCH/mapped"
	# shellcheck disable=SC2034 # the case uses them
	read -r vtd state device <"$SCRATCH/mapped"
	[ "$state" = Available ] || fail "$disk: state $state"
	[ -b "$device" ] || fail "$disk: '$device' is no device"
}

# field VTD FIELD: one field of lsmap.
field()
{
	"$BDFS" lsmap -sp "$POOL" -vtd "$1" -fmt '|' -field "$2"
}

vtd_count()
{
	"$BDFS" lsmap -sp "$POOL" -all --json | json - 'len(d["mappings"])'
}
