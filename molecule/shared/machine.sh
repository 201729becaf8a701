#!/usr/bin/env bash
# A machine to sign in to, where no image can be pulled: a Debian tree by debootstrap, and systemd in namespaces of its own, reached
# over a cable (veth) from this machine. The way out is a user's (slirp4netns): routes and firewall of this machine stay as they are.
#
#   machine.sh make DIR ADDRESS    the tree, a base image as tar archive, keys, and a disk for data
#   machine.sh up DIR ADDRESS      boots it, and again whenever it restarts itself
#   machine.sh down DIR            ends it and all that runs in it
#
# The machine has the name of its directory. Those of one parent directory share the key to sign in, the known hosts and what
# debootstrap has made, and a bridge joins them.
#
# It needs root, debootstrap, and the kernel's veth, tun, overlay and nf_tables.
set -euo pipefail
action=$1 dir=$2 there=${3:-}
shared=$(dirname "$dir") host=$(basename "$dir")
tree=$dir/tree
name=mf-$host
bridge=mf-machines
suite=trixie
here=198.18.77.1 stranger=198.18.77.9

make_template() {
  local tree=$shared/template
  local mirror
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  debootstrap --variant=minbase --include=ca-certificates $suite "$tree" "${mirror:-http://deb.debian.org/debian}" >"$shared/debootstrap.log"
  # Whom this machine trusts, and how it reaches packages, goes in as it is here.
  cp /usr/local/share/ca-certificates/*.crt "$tree/usr/local/share/ca-certificates/" 2>/dev/null || true
  chroot "$tree" update-ca-certificates >/dev/null 2>&1
  cp /etc/apt/apt.conf.d/99* "$tree/etc/apt/apt.conf.d/" 2>/dev/null || true
  cp /etc/pip.conf "$tree/etc/" 2>/dev/null || true
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
  tar -C "$tree" -c . >"$shared/base.tar"

  cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
  chroot "$tree" sh -ec 'export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends systemd systemd-sysv dbus e2fsprogs openssh-server python3 python3-apt \
      sudo iproute2 procps slirp4netns curl >/dev/null
    systemctl enable -q ssh
    systemctl mask -q getty@tty1 console-getty systemd-udevd systemd-modules-load
    useradd -m -s /bin/bash admin
    echo "admin ALL=(ALL) NOPASSWD:ALL" >/etc/sudoers.d/admin
    rm -f /etc/ssh/ssh_host_*' 2>"$shared/packages.log"
  echo nameserver 10.0.2.3 >"$tree/etc/resolv.conf"
  mv "$shared/base.tar" "$tree/root/base.tar"
  touch "$shared/template.made"
}

make_tree() {
  [ -e "$shared/template.made" ] || make_template
  cp --archive --reflink=auto "$shared/template" "$tree"
  echo "$host" >"$tree/etc/hostname"
  echo "127.0.1.1 $host" >>"$tree/etc/hosts"
}

make_keys() {
  [ -e "$shared/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -f "$shared/id_ed25519"
  ssh-keygen -q -t ed25519 -N '' -f "$tree/etc/ssh/ssh_host_ed25519_key"
  install -d -m 700 "$tree/home/admin/.ssh"
  install -m 600 "$shared/id_ed25519.pub" "$tree/home/admin/.ssh/authorized_keys"
  chroot "$tree" chown -R admin:admin /home/admin/.ssh
  awk -v host="$there" '{print host, $1, $2}' "$tree/etc/ssh/ssh_host_ed25519_key.pub" >>"$shared/known_hosts"
}

cable() {
  if ! ip link show $bridge >/dev/null 2>&1; then
    ip link add $bridge type bridge
    ip addr add $here/24 dev $bridge
    ip addr add $stranger/24 dev $bridge
    ip link set $bridge up
  fi
  ip netns add "$name"
  ip link add "$name" type veth peer name eth0 netns "$name"
  ip link set "$name" master $bridge up
  ip -n "$name" link set lo up
  ip -n "$name" addr add "$there/24" dev eth0
  ip -n "$name" link set eth0 up
  unshare --mount sh -c "mount --rbind /proc $tree/proc && mount --rbind /dev $tree/dev && mount --rbind /run $tree/run \
    && exec setsid chroot $tree slirp4netns --configure --mtu=65520 --disable-host-loopback --netns-type=path /run/netns/$name tap0" \
    >"$dir/slirp.log" 2>&1 </dev/null &
  echo $! >"$dir/slirp.pid"
}

# In namespaces already: makes what systemd expects, changes the root, and becomes systemd.
boot() {
  mount --make-rprivate /
  mount --bind "$tree" "$tree"
  cd "$tree"
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=755 tmpfs dev
  mkdir -p dev/pts dev/shm dev/net dev/disk/by-id .old
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  local node
  for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0' 'net/tun 10 200' 'fuse 10 229'; do
    # shellcheck disable=SC2086 # three words
    mknod -m 666 dev/${node%% *} c ${node#* }
  done
  mknod -m 660 "dev/$(basename "$(cat "$dir/disk.device")")" b 7 "$(sed 's/[^0-9]*//' "$dir/disk.device")"
  ln -s "../../$(basename "$(cat "$dir/disk.device")")" dev/disk/by-id/data
  announce_disk
  control_groups
  pivot_root . .old
  umount -l /.old
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1
}

# There is no udev: what it would say of a disk that has a file system, without which systemd mounts nothing by UUID.
announce_disk() {
  local device number uuid
  device=$(basename "$(cat "$dir/disk.device")")
  number=b7:${device#loop}
  uuid=$(blkid --probe --output value --match-tag UUID "dev/$device") || return 0
  mkdir -p dev/disk/by-uuid run/udev/data run/udev/tags/systemd
  ln -s "../../$device" "dev/disk/by-uuid/$uuid"
  printf '%s\n' "S:disk/by-uuid/$uuid" I:1 "E:ID_FS_UUID=$uuid" G:systemd Q:systemd V:1 >"run/udev/data/$number"
  touch "run/udev/tags/systemd/$number"
}

control_groups() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    return
  fi
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  local group
  for group in /sys/fs/cgroup/*/; do
    group=$(basename "$group")
    mkdir -p "sys/fs/cgroup/$group"
    case $group in
      unified) mount -t cgroup2 cgroup2 "sys/fs/cgroup/$group" ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup "sys/fs/cgroup/$group" ;;
      *) mount -t cgroup -o "$group" cgroup "sys/fs/cgroup/$group" ;;
    esac
  done
}

own_control_groups() {
  local group
  for group in $(if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; else echo /sys/fs/cgroup/*/; fi); do
    mkdir -p "$group/$name"
    if [ -e "$group/cpuset.cpus" ]; then
      cat "$group/cpuset.cpus" >"$group/$name/cpuset.cpus"
      cat "$group/cpuset.mems" >"$group/$name/cpuset.mems"
    fi
    echo $BASHPID >"$group/$name/cgroup.procs"
  done
}

up() {
  # No namespace has one of its own: what the machine sets is set here, and goes back when it ends.
  [ -e "$dir/max_map_count" ] || cat /proc/sys/vm/max_map_count >"$dir/max_map_count"
  losetup --find --show "$dir/disk" >"$dir/disk.device"
  cable
  setsid "$0" power "$dir" "$there" >"$dir/console.log" 2>&1 </dev/null &
  echo $! >"$dir/machine.pid"
}

# As long as the machine has power. One that restarts itself ends by the signal HUP, and boots with a network and settings as new.
power() {
  local ended
  while true; do
    ended=0
    (
      own_control_groups
      exec nsenter --net="/run/netns/$name" unshare --mount --uts --ipc --cgroup --pid --fork --kill-child "$0" boot "$dir"
    ) || ended=$?
    [ $ended = $((128 + $(kill -l HUP))) ] || return $ended
    uncable
    forget_settings
    cable
  done
}

uncable() {
  [ -e "$dir/slirp.pid" ] && kill "$(cat "$dir/slirp.pid")" 2>/dev/null || true
  ip link del "$name" 2>/dev/null || true
  ip netns del "$name" 2>/dev/null || true
}

forget_settings() {
  [ ! -e "$dir/max_map_count" ] || cat "$dir/max_map_count" >/proc/sys/vm/max_map_count
}

down() {
  # unshare takes its child along, and that is the first process of the namespace: the kernel then ends all others.
  [ -e "$dir/machine.pid" ] && kill -9 -- "-$(cat "$dir/machine.pid")" 2>/dev/null || true
  uncable
  ls /sys/class/net/$bridge/brif/* >/dev/null 2>&1 || ip link del $bridge 2>/dev/null || true
  for _ in $(seq 50); do
    losetup --detach "$(cat "$dir/disk.device" 2>/dev/null)" 2>/dev/null && break
    sleep 0.2
  done
  find /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  forget_settings
  rm -f "$dir"/*.pid "$dir/disk.device" "$dir/max_map_count"
}

case $action in
  make)
    make_tree
    make_keys
    truncate --size=20G "$dir/disk"
    ;;
  up) up ;;
  power) power ;;
  boot) boot ;;
  down) down ;;
esac
