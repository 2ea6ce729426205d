/* SPDX-License-Identifier: Apache-2.0 */
#include "wakeups.h"
#include "failure.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int *buffers; /* by CPU; -1: it is not there */
static unsigned buffer_count;

static int open_buffer(unsigned cpu) {
  struct perf_event_attr attr = {
      .size = sizeof(attr),
      .type = PERF_TYPE_SOFTWARE,
      .config = PERF_COUNT_SW_BPF_OUTPUT,
      .sample_type = PERF_SAMPLE_RAW,
      .sample_period = 1,
      .wakeup_events = 1,
  };
  return syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

void wakeups_open(int map, unsigned cpus, int epoll) {
  size_t page = sysconf(_SC_PAGESIZE);
  struct epoll_event readable = {.events = EPOLLIN};
  buffers = allocate(cpus, sizeof(*buffers));
  for (buffer_count = 0; buffer_count < cpus; buffer_count++) {
    uint32_t cpu = buffer_count;
    int fd = buffers[cpu] = open_buffer(cpu);
    if (fd < 0 && errno == ENODEV)
      continue;
    /* Whoever may not write is not asked how far it has read. It stays mapped: only this process
     * has it. */
    if (fd < 0 || mmap(0, 2 * page, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ||
        bpf_map_update_elem(map, &cpu, &fd, BPF_ANY) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &readable))
      fail(EXIT_KERNEL, "", "cannot be woken from CPU %u: %s", cpu, strerror(errno));
  }
}

void wakeups_close(void) {
  for (unsigned cpu = 0; cpu < buffer_count; cpu++)
    if (buffers[cpu] >= 0)
      close(buffers[cpu]);
  free(buffers);
  buffers = 0;
  buffer_count = 0;
}
