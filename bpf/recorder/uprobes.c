/* SPDX-License-Identifier: Apache-2.0 */
#include "uprobes.h"
#include "failure.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The part of union bpf_attr that BPF_LINK_CREATE reads for such a link (Linux 6.6). */
struct multi_link {
  __u32 program, target, attach_type, flags;
  __u64 path, offsets, reference_counters, cookies;
  __u32 count, multi_flags, pid, padding;
};
#define MULTI_AT_RETURN 1

int uprobes_link(int program, const char *path, uint64_t offset, pid_t pid, bool at_return) {
  struct multi_link link = {
      .program = program,
      .attach_type = UPROBE_MULTI,
      .path = (uintptr_t)path,
      .offsets = (uintptr_t)&offset,
      .count = 1,
      .multi_flags = at_return ? MULTI_AT_RETURN : 0,
      .pid = pid,
  };
  return syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));
}

/* ---- One perf event per probe, where there are no such links */

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

static int attach_event(int program, const char *path, uint64_t offset, pid_t pid, bool at_return) {
  struct perf_event_attr attr = {
      .size = sizeof(attr),
      .type = event_source("type", ""),
      .config = at_return ? 1ull << event_source("format/retprobe", "config:") : 0,
      .config1 = (uintptr_t)path,
      .config2 = offset,
  };
  int fd = syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
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

/* ---- The plan */

static _Noreturn void refused(const struct objects *objects, const struct object *object,
                              const struct plan_probe *probe) {
  int error = errno;
  char *what =
      text("the %s probe of %s in %s at offset %#llx", probe->at_return ? "return" : "entry",
           probe->symbol, object->path, (unsigned long long)probe->offset);
  if (target_has_ended(objects->target))
    fail(EXIT_TARGET, "", "process %d ended while probes were being attached",
         objects->target->pid);
  if (error == EACCES || error == EPERM)
    fail(EXIT_PRIVILEGE, "run it as root", "not allowed to attach %s: %s", what, strerror(error));
  fail(EXIT_PROBES, error == EINVAL ? "another tracer may hold a probe at the same place" : "",
       "cannot attach %s: %s", what, strerror(error));
}

struct uprobes uprobes_attach(const struct programs *programs, const struct objects *objects,
                              enum level level) {
  const struct plan *plan = objects->plan;
  struct uprobes uprobes = {allocate(plan->probe_count * objects->count, sizeof(int)), 0};
  for (size_t i = 0; i < plan->probe_count; i++)
    for (size_t j = 0; j < objects->count; j++) {
      const struct plan_probe *probe = &plan->probes[i];
      const struct object *object = &objects->found[j];
      if (probe->level > level || object->planned != probe->object)
        continue;
      char path[32];
      snprintf(path, sizeof(path), "/proc/self/fd/%d", object->fd);
      int program = bpf_program__fd(programs_find(programs, probe->handler));
      int fd = (programs->features.multi ? uprobes_link : attach_event)(
          program, path, probe->offset, objects->target->pid, probe->at_return);
      if (fd < 0)
        refused(objects, object, probe);
      uprobes.fds[uprobes.count++] = fd;
    }
  return uprobes;
}

static void *close_one(void *fd) {
  close(*(int *)fd);
  return 0;
}

/* Side by side: the kernel takes its time (0.1 s) for each. */
void uprobes_detach(struct uprobes *uprobes) {
  pthread_t *threads = allocate(uprobes->count, sizeof(*threads));
  size_t started = 0;
  while (started < uprobes->count &&
         !pthread_create(&threads[started], 0, close_one, &uprobes->fds[started]))
    started++;
  for (size_t i = started; i < uprobes->count; i++)
    close(uprobes->fds[i]);
  for (size_t i = 0; i < started; i++)
    pthread_join(threads[i], 0);
  free(threads);
  uprobes->count = 0;
}
