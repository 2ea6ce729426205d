/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Files that user space has looked into and found to hold no engine (recorder/known_files.c): a
 * process that can execute nothing else need not be stopped. Where the kernel lends its iterator of
 * a task's memory areas (Linux 6.7), LOOKS_AT_FILES is 1.
 *
 * The dialect defines the maps of these files and of a root, and the functions declared here.
 */
#ifndef PROFINFER_KNOWN_FILES_H
#define PROFINFER_KNOWN_FILES_H

#include "parameters.h"
#include "pids.h"

#define MAY_EXECUTE 4                /* VM_EXEC */
#define NANOSECONDS ((1u << 31) - 1) /* the bit above them is the kernel's own */

/* What a file is; written to, it is another one. */
struct file_key {
  __u64 inode, size, changed_s;
  __u32 device, changed_ns; /* the device as the kernel has it */
};

/* What is known of it. */
#define HARMLESS 1
#define WATCHED 2 /* and it is a dynamic loader, which is watched */

/* The root of a process. */
struct root {
  __u64 mount, entry;
};

/* A walk through the memory areas of a task, as the kernel keeps it. */
struct areas {
  __u64 opaque;
};

BODY __u32 file_find(const struct file_key *key);
/* The root that is kept; zeros until one is. */
BODY struct root *root_kept(void);

static int (*const areas_begin)(struct areas *, void *task, __u64 from) = KERNEL_FUNCTION(0);
static void *(*const areas_next)(struct areas *) = KERNEL_FUNCTION(1);
static void (*const areas_end)(struct areas *) = KERNEL_FUNCTION(2);

/* What is known of the file in a memory area: 0: nothing; where it cannot be executed, or is no
 * file, it is harmless. */
BODY __u32 look_at_area(__u64 area) {
  struct file_key key = {};
  __u64 file = read_kernel(area + AREA_FILE);
  if (!(read_kernel(area + AREA_FLAGS) & MAY_EXECUTE) || !file)
    return HARMLESS;
  __u64 inode = read_kernel(file + FILE_INODE);
  key.inode = read_kernel(inode + INODE_NUMBER);
  key.size = read_kernel(inode + INODE_SIZE);
  key.changed_s = read_kernel(inode + INODE_CHANGED_S);
  key.changed_ns = read_kernel(inode + INODE_CHANGED_NS) & NANOSECONDS;
  key.device = read_kernel(read_kernel(inode + INODE_SUPER) + SUPER_DEVICE);
  return file_find(&key);
}

/* Whether the process that runs can execute known files only, and `wanted` is known of one. */
BODY int executes_known(__u32 wanted) {
  struct areas areas;
  __u32 found = 0, what = HARMLESS;
  if (!LOOKS_AT_FILES)
    return 0;
  areas_begin(&areas, bpf_get_current_task_btf(), 0);
  for (void *area; what && (area = areas_next(&areas));) {
    what = look_at_area((__u64)area);
    found |= what;
  }
  areas_end(&areas);
  return what && found & wanted;
}

/* Whether the process that runs has the root of the one that was asked about first: which is the
 * command, before its first instruction, and has ours. */
BODY int has_first_root(void) {
  struct root *first = root_kept(), own = {};
  __u64 files = read_kernel(bpf_get_current_task() + TASK_FS);
  if (!first || bpf_probe_read_kernel(&own, sizeof(own), (void *)(files + FS_ROOT)))
    return 0;
  if (!first->mount)
    *first = own;
  return first->mount == own.mount && first->entry == own.entry;
}

#endif
