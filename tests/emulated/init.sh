#!/bin/busybox sh
# The first process of an emulated machine: runs /command in /left, gives back its output while it
# runs (first port), then its exit status and the files in /left (second port), and switches off.
PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /left
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/console 2>&1 </dev/null
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
for module in /modules/*; do
    [ -e "$module" ] && insmod "$module"
done
until [ -e /dev/vport0p1 ] && [ -e /dev/vport0p2 ]; do usleep 1000; done

echo "running /command"
cd /left
sh /command >/dev/vport0p1 2>&1
echo $? >/status
tar -cf /dev/vport0p2 -C / status left
poweroff -f
