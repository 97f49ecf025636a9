# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The body of loop-ext4, loop-xfs and loop-btrfs: a filesystem on a loop device on a disk, with direct
# I/O on and off. Fill it, read it back, delete, fstrim: the space must come back to the pool and to
# the host; the filesystem's own check must be clean. Sourced after functions.sh.

fs_make()
{
	case $1 in
	ext4) mkfs.ext4 -q -F "$2" ;;
	xfs) mkfs.xfs -q -f "$2" ;;
	btrfs) mkfs.btrfs -q -f "$2" ;;
	esac
}

fs_check()
{
	case $1 in
	ext4) e2fsck -fn "$2" ;;
	xfs) xfs_repair -n "$2" ;;
	btrfs) btrfs check --readonly "$2" ;;
	esac >"$SCRATCH/fsck.out" 2>&1 || {
		cat "$SCRATCH/fsck.out"
		fail "$1 on $2 is not clean"
	}
}

# make_files DIRECTORY COUNT SEED: files of 1 byte to 1 MiB with contents that compress badly.
make_files()
{
	python3 - "$@" <<'PY'
import os, random, sys
directory, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = random.Random(seed)
os.makedirs(directory)
for number in range(count):
    size = 1 + source.randrange(1 << source.randrange(4, 21))
    with open(f"{directory}/{number}", "wb") as out:
        out.write(source.randbytes(size))
PY
}

mounted_fs=
loop_device=

fs_down()
{
	[ -z "$mounted_fs" ] || umount "$mounted_fs" 2>/dev/null || umount -l "$mounted_fs" 2>/dev/null
	[ -z "$loop_device" ] || loop_detach "$loop_device" disks/
}

pool_is_back()
{
	[ "$(pool_free_bytes)" -ge "$1" ]
}

host_is_back()
{
	[ "$(bytes_on_host "$SCRATCH/pool/pv0")" -le "$1" ]
}

# What "given back" means: within 24 MiB, for what the filesystem keeps of its own.
slack=$((24 * 1024 * 1024))

loop_fs_round()
{
	local fs=$1 direct=$2 inner=$SCRATCH/inner free_full host_full free_start used

	step "$fs, direct I/O of the loop device $direct"
	mkdir -p "$inner"
	make_disk disk 2G
	loop_device=$(loop_attach "$MNT/disks/disk" "$direct")
	if [ "$direct" = on ]; then
		[ "$(losetup -n -O DIO "$loop_device" | tr -d ' ')" = 1 ] || fail "the loop device does no direct I/O"
	fi
	fs_make "$fs" "$loop_device"
	mount "$loop_device" "$inner"
	mounted_fs=$inner

	make_files "$inner/keep" 40 1
	sync -f "$inner"
	free_start=$(pool_free_bytes)
	make_files "$inner/drop" 2500 2
	(cd "$inner" && find . -type f -print0 | xargs -0 sha256sum) >"$SCRATCH/sums"

	step "read back after a fresh mount"
	umount "$inner"
	fs_check "$fs" "$loop_device"
	mount "$loop_device" "$inner"
	(cd "$inner" && sha256sum --quiet -c "$SCRATCH/sums")
	free_full=$(pool_free_bytes)
	host_full=$(bytes_on_host "$SCRATCH/pool/pv0")
	used=$((free_start - free_full))
	echo "the files take $((used / 1048576)) MiB of the pool; host file $((host_full / 1048576)) MiB"
	[ "$used" -gt $((3 * slack)) ] || fail "too little was written for the test to mean something"

	step "delete and fstrim"
	rm -r "$inner/drop"
	sync -f "$inner"
	fstrim -v "$inner"
	wait_until 30 pool_is_back $((free_start - slack)) ||
		fail "free $(pool_free_bytes) of $free_start bytes 30 s after fstrim (was $free_full)"
	wait_until 30 host_is_back $((host_full - used + slack)) ||
		fail "the host file has $(bytes_on_host "$SCRATCH/pool/pv0") bytes 30 s after fstrim (was $host_full)"
	grep ' ./keep/' "$SCRATCH/sums" >"$SCRATCH/kept"
	(cd "$inner" && sha256sum --quiet -c "$SCRATCH/kept")
	umount "$inner"
	mounted_fs=
	fs_check "$fs" "$loop_device"

	step "a disk that a loop device holds is not removed"
	expect fail "" "$BDFS" rmbdsp -sp "$POOL" -bd disk --yes
	expect fail "busy" rm "$MNT/disks/disk"
	losetup -d "$loop_device"
	loop_device=
	wait_until 10 rm "$MNT/disks/disk" || fail "rm after the loop device is gone"
	pool_check
}

loop_fs_case()
{
	need_root
	need_filesystem "$1"
	need_command losetup fstrim "mkfs.$1"
	at_exit fs_down
	pool_make 3G
	pool_mount
	loop_fs_round "$1" on
	loop_fs_round "$1" off
	pool_umount
	pool_check
}
