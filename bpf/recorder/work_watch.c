/* SPDX-License-Identifier: Apache-2.0 */
#include "work_watch.h"
#include "failure.h"
#include "uprobe.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int *watches;
static size_t watch_count;

/* By perf events, which every kernel has that can stop a process. */
void work_watch(int program, pid_t pid, int file, const uint64_t *offsets, size_t count) {
  char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
  watches = reallocarray(watches, watch_count + count + 1, sizeof(*watches));
  if (!watches)
    fail(EXIT_KERNEL, "", "out of memory");
  for (size_t i = 0; i < count; i++)
    watch_count += uprobe_events(program, path, &offsets[i], 1, pid, false, &watches[watch_count]);
}

void work_watch_end(void) {
  uprobe_close(watches, watch_count);
  watch_count = 0;
}

void work_watch_leave(void) {
  for (size_t i = 0; i < watch_count; i++)
    close(watches[i]);
  watch_count = 0;
}
