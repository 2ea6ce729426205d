/* SPDX-License-Identifier: Apache-2.0 */
#include "uprobe.h"
#include "failure.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int uprobe_nothing(bool by_link) {
  /* r0 = 0; exit */
  const struct bpf_insn nothing[] = {{.code = 0xb7}, {.code = 0x95}};
  LIBBPF_OPTS(bpf_prog_load_opts, how, .expected_attach_type = by_link ? UPROBE_MULTI : 0);
  return bpf_prog_load(BPF_PROG_TYPE_KPROBE, 0, "GPL", nothing, 2, &how);
}

/* ---- Links */

/* The part of union bpf_attr that BPF_LINK_CREATE reads for such a link (Linux 6.6). */
struct multi_link {
  __u32 program, target, attach_type, flags;
  __u64 path, offsets, reference_counters, cookies;
  __u32 count, multi_flags, pid, padding;
};
#define MULTI_AT_RETURN 1

int uprobe_link(int program, const char *path, const uint64_t *offsets, size_t count, pid_t pid,
                bool at_return) {
  struct multi_link link = {
      .program = program,
      .attach_type = UPROBE_MULTI,
      .path = (uintptr_t)path,
      .offsets = (uintptr_t)offsets,
      .count = count,
      .multi_flags = at_return ? MULTI_AT_RETURN : 0,
      .pid = pid,
  };
  return syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));
}

/* ---- Perf events */

/* A number in a file of the uprobe event source, after a prefix. */
static int event_source(const char *name, const char *prefix) {
  char path[128], line[64] = "";
  snprintf(path, sizeof(path), "/sys/bus/event_source/devices/uprobe/%s", name);
  FILE *file = fopen(path, "re");
  if (!file || !fgets(line, sizeof(line), file) || strncmp(line, prefix, strlen(prefix)))
    fail(EXIT_KERNEL, "use a kernel with CONFIG_UPROBE_EVENTS, and mount /sys",
         "this kernel has no uprobe events (cannot read %s)", path);
  fclose(file);
  return atoi(line + strlen(prefix));
}

static int attach(int program, const struct perf_event_attr *attr, pid_t pid) {
  /* Of every process: then the program runs on every CPU, whichever the event is on. */
  int cpu = pid ? -1 : sched_getcpu();
  int fd = syscall(SYS_perf_event_open, attr, pid ? pid : -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0)
    return -1;
  if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, program) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0)) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

size_t uprobe_events(int program, const char *path, const uint64_t *offsets, size_t count,
                     pid_t pid, bool at_return, int *fds) {
  struct perf_event_attr attr = {
      .size = sizeof(attr),
      .type = event_source("type", ""),
      .config = at_return ? 1ull << event_source("format/retprobe", "config:") : 0,
      .config1 = (uintptr_t)path,
  };
  for (size_t i = 0; i < count; i++) {
    attr.config2 = offsets[i];
    fds[i] = attach(program, &attr, pid);
    if (fds[i] < 0)
      return i;
  }
  return count;
}

static void *close_one(void *fd) {
  close(*(const int *)fd);
  return 0;
}

/* Side by side: the kernel takes its time (0.1 s) for each perf event. */
void uprobe_close(const int *fds, size_t count) {
  pthread_t *threads = allocate(count, sizeof(*threads));
  size_t started = 0;
  while (started < count && !pthread_create(&threads[started], 0, close_one, (void *)&fds[started]))
    started++;
  for (size_t i = started; i < count; i++)
    close(fds[i]);
  for (size_t i = 0; i < started; i++)
    pthread_join(threads[i], 0);
  free(threads);
}
