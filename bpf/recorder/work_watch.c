/* SPDX-License-Identifier: Apache-2.0 */
#include "work_watch.h"
#include "failure.h"
#include "uprobe.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct watch {
  pid_t pid;
  int fd;
} * watches;
static size_t watch_count;

/* By perf events, which every kernel has that can stop a process. */
void work_watch(int program, pid_t pid, int file, const uint64_t *offsets, size_t count) {
  char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
  watches = reallocarray(watches, watch_count + count + 1, sizeof(*watches));
  if (!watches)
    fail(EXIT_KERNEL, "", "out of memory");
  for (size_t i = 0; i < count; i++) {
    struct watch *watch = &watches[watch_count];
    watch->pid = pid;
    watch_count += uprobe_events(program, path, &offsets[i], 1, pid, false, &watch->fd);
  }
}

void work_watch_end(pid_t pid) {
  int *fds = allocate(watch_count + 1, sizeof(*fds));
  size_t dropped = 0, kept = 0;
  for (size_t i = 0; i < watch_count; i++)
    if (pid && watches[i].pid != pid)
      watches[kept++] = watches[i];
    else
      fds[dropped++] = watches[i].fd;
  watch_count = kept;
  uprobe_close(fds, dropped);
  free(fds);
}

void work_watch_leave(void) {
  for (size_t i = 0; i < watch_count; i++)
    close(watches[i].fd);
  watch_count = 0;
}
