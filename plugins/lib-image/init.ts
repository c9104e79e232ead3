/**
 * The first process of a guest that is nothing but an initramfs: a script for busybox's shell.
 *
 * It mounts what a userland needs, loads the modules that /etc/modules lists (paths, in order), waits for the disks and the network
 * device that XenStore promises, asks for an address by DHCP, and gives a login shell with job control on the console: by login, because a shell
 * ignores SIGINT for what it starts in the background and nothing but login takes that back (login wants a log, else it writes to the console). `poweroff`,
 * `reboot` and `halt` (busybox's, which signal process 1, and the toolstack's through the kernel, which run /sbin/poweroff and /sbin/reboot)
 * end every process, unmount what is on disks, and go.
 */

/** /init. */
export const INIT = `#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="\${TERM:-linux}"
/bin/busybox --install -s 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
syslogd

finish() {
  trap '' TERM USR1 USR2
  kill -TERM -1
  usleep 100000
  kill -KILL -1
  sync
  grep '^/dev/' /proc/mounts | cut -d' ' -f2 | tac | while read -r folder; do
    umount "$folder" || mount -o remount,ro "$folder"
  done
  "$1" -f
}
trap 'finish poweroff' USR2
trap 'finish reboot' TERM
trap 'finish halt' USR1

hostname "$(cat /etc/hostname)"
[ -e /etc/modules ] && while read -r module; do insmod "$module"; done </etc/modules

# What XenStore promises comes a moment after its driver.
promised() { ls -d /sys/bus/xen/devices/"$1"-* 2>/dev/null | wc -l; }
there() { ls -d $1 2>/dev/null | wc -l; }
wait_for() {
  tries=0
  while [ "$(there "$2")" -lt "$(promised "$1")" ] && [ "$tries" -lt 40 ]; do
    usleep 50000
    tries=$((tries + 1))
  done
}
wait_for vbd '/sys/block/xvd* /sys/block/sd* /sys/block/hd*'
wait_for vif '/sys/class/net/eth*'

ip link set lo up
for device in /sys/class/net/eth*; do
  [ -e "$device" ] || continue
  device="\${device##*/}"
  ip link set "$device" up
  udhcpc -i "$device" -q -n -t 4 -T 1 -A 1 -s /etc/udhcpc.script >/dev/null 2>&1 ||
    echo "$device: no answer by DHCP"
done

[ -e /etc/issue ] && cat /etc/issue
cd /
while :; do
  setsid cttyhack /bin/busybox login -p -f root </dev/console >/dev/console 2>&1 &
  shell=$!
  while kill -0 "$shell" 2>/dev/null; do wait "$shell"; done
  echo "The shell has ended: a new one (poweroff ends the guest)."
done
`;

/** /etc/udhcpc.script: what udhcpc runs with what it has been told. */
export const UDHCPC_SCRIPT = `#!/bin/busybox sh
case "$1" in
deconfig)
  ip addr flush dev "$interface"
  ip link set "$interface" up
  ;;
bound | renew)
  ip addr flush dev "$interface"
  ip addr add "$ip/\${mask:-24}" dev "$interface"
  for gateway in $router; do ip route add default via "$gateway" dev "$interface" && break; done
  [ -n "$hostname" ] && hostname "$hostname"
  : >/etc/resolv.conf
  [ -n "$domain" ] && echo "search $domain" >>/etc/resolv.conf
  for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
  ;;
esac
`;

/** /etc/profile of the login shell. */
export const PROFILE = `export PS1='\\u@\\h:\\w\\$ ' HOME=/root USER=root
`;
