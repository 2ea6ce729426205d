/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_types.h"
#include "btf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BTF_FILE "/sys/kernel/btf/vmlinux"

/* ---- From its bytes */

static void lacks(struct kernel_types *found, const char *what, const char *member) {
  if (!*found->problem)
    snprintf(found->problem, sizeof(found->problem), "this kernel's %s has no %s", what, member);
}

/* A field of a task, by the first of its names that there is. */
static int field(const struct btf_types *types, const char *name, const char *outer,
                 const char *inner, struct kernel_types *found) {
  int offset = btf_offset(types, "task_struct", name, 0);
  if (offset < 0 && outer)
    offset = btf_offset(types, "task_struct", outer, inner);
  if (offset < 0)
    lacks(found, "struct task_struct", name);
  return offset;
}

/* A struct upid is a number, then a pointer, as the programs read it. */
static void find_numbers(const struct btf_types *types, struct kernel_types *found) {
  bool is_as_read =
      btf_offset(types, "upid", "nr", 0) == 0 && btf_offset(types, "upid", "ns", 0) == 8;
  found->task_thread_pid = btf_offset(types, "task_struct", "thread_pid", 0);
  found->task_group_leader = btf_offset(types, "task_struct", "group_leader", 0);
  found->pid_depth = btf_offset(types, "pid", "level", 0);
  found->pid_numbers = is_as_read ? btf_offset(types, "pid", "numbers", 0) : -1;
  found->namespace_inode = btf_offset(types, "pid_namespace", "ns", "inum");
}

/* A struct path is a mount, then a directory, as the programs read it. When a file was changed is
 * two fields, or one of two: seconds, then, 8 bytes behind, nanoseconds. */
static void find_files(const struct btf_types *types, struct kernel_types *found) {
  found->areas_begin = btf_function(types, "bpf_iter_task_vma_new");
  found->areas_next = btf_function(types, "bpf_iter_task_vma_next");
  found->areas_end = btf_function(types, "bpf_iter_task_vma_destroy");
  found->task_fs = btf_offset(types, "task_struct", "fs", 0);
  found->fs_root = btf_offset(types, "fs_struct", "root", 0);
  found->area_flags = btf_offset(types, "vm_area_struct", "vm_flags", 0);
  found->area_file = btf_offset(types, "vm_area_struct", "vm_file", 0);
  found->file_inode = btf_offset(types, "file", "f_inode", 0);
  found->inode_number = btf_offset(types, "inode", "i_ino", 0);
  found->inode_size = btf_offset(types, "inode", "i_size", 0);
  found->inode_super = btf_offset(types, "inode", "i_sb", 0);
  found->super_device = btf_offset(types, "super_block", "s_dev", 0);
  int changed = btf_offset(types, "inode", "__i_ctime", 0);
  found->inode_changed_s = changed < 0 ? btf_offset(types, "inode", "i_ctime_sec", 0) : changed;
  found->inode_changed_ns =
      changed < 0 ? btf_offset(types, "inode", "i_ctime_nsec", 0) : changed + 8;
}

static void find_throttling(const struct btf_types *types, struct kernel_types *found) {
  found->task_tgid = btf_offset(types, "task_struct", "tgid", 0);
  found->task_throttled = btf_offset(types, "task_struct", "throttled", 0);
  found->task_queue = btf_offset(types, "task_struct", "se", "cfs_rq");
  /* Where tasks are throttled one by one, a throttled queue still lends its CPU to some. */
  bool is_by_task = btf_offset(types, "cfs_rq", "throttled_limbo_list", 0) >= 0;
  found->queue_throttles = is_by_task ? -1 : btf_offset(types, "cfs_rq", "throttle_count", 0);
  int since = btf_offset(types, "cfs_rq", "throttled_clock_self", 0);
  int before = btf_offset(types, "cfs_rq", "throttled_clock_self_time", 0);
  found->queue_cpu = btf_offset(types, "cfs_rq", "rq", 0);
  found->cpu_clock = btf_offset(types, "rq", "clock", 0);
  bool is_counted =
      since >= 0 && before == since + 8 && found->queue_cpu >= 0 && found->cpu_clock >= 0;
  found->queue_throttled_time = is_counted ? since : -1;
  if (found->task_tgid < 0 || found->task_queue < 0)
    found->task_throttled = found->queue_throttles = found->queue_throttled_time = -1;
}

static void find_fields(const struct btf_types *types, struct kernel_types *found) {
  found->task_pid = field(types, "pid", 0, 0, found);
  found->task_prio = field(types, "prio", 0, 0, found);
  found->task_comm = field(types, "comm", 0, 0, found);
  found->task_state = field(types, "__state", "state", 0, found);
  found->task_exit_state = field(types, "exit_state", 0, 0, found);
  found->task_cpu = field(types, "cpu", "thread_info", "cpu", found);
  int arguments = btf_tracepoint_arguments(types, "sched_switch");
  if (arguments < 0)
    lacks(found, "BTF", "btf_trace_sched_switch");
  found->switch_tells_state = arguments > 3;
  int willing = btf_offset(types, "task_struct", "nvcsw", 0);
  int forced = btf_offset(types, "task_struct", "nivcsw", 0);
  found->switch_counts = willing >= 0 && forced == willing + 8 ? willing : -1;
  find_numbers(types, found);
  find_throttling(types, found);
  find_files(types, found);
}

void kernel_types_find(const void *btf, size_t size, struct kernel_types *found) {
  struct btf_types types;
  *found = (struct kernel_types){.switch_counts = -1};
  const char *why = btf_open(&types, btf, size);
  if (why)
    snprintf(found->problem, sizeof(found->problem), "%s cannot be read: %s", BTF_FILE, why);
  else
    find_fields(&types, found);
  btf_close(&types);
}

/* ---- In a child */

static struct kernel_types known;
static bool is_known;
static long peak_kb;

static void cannot_read(struct kernel_types *found, const char *why) {
  *found = (struct kernel_types){.switch_counts = -1};
  snprintf(found->problem, sizeof(found->problem),
           "this kernel does not describe its types: %s: %s", BTF_FILE, why);
}

static void read_types(struct kernel_types *found) {
  struct stat status;
  int fd = open(BTF_FILE, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &status)) {
    cannot_read(found, strerror(errno));
    return;
  }
  size_t size = status.st_size, used = 0;
  char *data = malloc(size);
  ssize_t got = 0;
  while (data && used < size && (got = read(fd, data + used, size - used)) > 0)
    used += got;
  if (!data || got < 0)
    cannot_read(found, strerror(errno));
  else
    kernel_types_find(data, used, found);
}

static _Noreturn void answer(int pipe) {
  struct kernel_types found;
  read_types(&found);
  _exit(write(pipe, &found, sizeof(found)) == sizeof(found) ? 0 : 1);
}

/* Reads them in a child, which is gone then. */
static void ask_child(void) {
  struct rusage used;
  int ends[2], status;
  if (pipe2(ends, O_CLOEXEC)) {
    cannot_read(&known, strerror(errno));
    return;
  }
  pid_t child = fork();
  if (!child)
    answer(ends[1]);
  close(ends[1]);
  /* It is small enough to come in one piece. */
  ssize_t got = -1;
  while (child > 0 && (got = read(ends[0], &known, sizeof(known))) < 0 && errno == EINTR)
    ;
  bool is_answered = got == sizeof(known);
  close(ends[0]);
  if (!is_answered)
    cannot_read(&known, child > 0 ? "the process that reads it has died" : strerror(errno));
  pid_t ended = -1;
  while (child > 0 && (ended = wait4(child, &status, 0, &used)) < 0 && errno == EINTR)
    ;
  if (ended > 0)
    peak_kb = used.ru_maxrss;
}

const struct kernel_types *kernel_types(void) {
  if (!is_known)
    ask_child();
  is_known = true;
  known.problem[sizeof(known.problem) - 1] = 0;
  return &known;
}

int kernel_switch_counts(void) { return kernel_types()->switch_counts; }

long kernel_types_peak_kb(void) { return peak_kb; }
