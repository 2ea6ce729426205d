/* SPDX-License-Identifier: Apache-2.0 */
#include "loader_watch.h"
#include "elf_symbols.h"
#include "failure.h"
#include "uprobe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of each loader's file one, for all processes: a probe for one process takes the kernel some 10 ms
 * to make and 100 ms to take away, and a script may start thousands. */
static struct watch {
  uint64_t inode;
  char device[16];
  int fd; /* -1: it has no such function */
} * watches;
static size_t watch_count;

static bool is_loader(const char *path) {
  static const char *const prefixes[] = {"ld-", "ld.", "ld64"};
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
    if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
      return true;
  return false;
}

/* 0: it has not been met. */
static const struct watch *find(const struct mapping *loader) {
  for (size_t i = 0; i < watch_count; i++)
    if (watches[i].inode == loader->inode && !strcmp(watches[i].device, loader->device))
      return &watches[i];
  return 0;
}

bool loader_is_watched(const struct mapping *mapping) {
  const struct watch *found = find(mapping);
  return found && found->fd >= 0;
}

static void add(const struct mapping *loader, int fd) {
  watches = reallocarray(watches, watch_count + 1, sizeof(*watches));
  if (!watches)
    fail(EXIT_KERNEL, "", "out of memory");
  struct watch *watch = &watches[watch_count++];
  *watch = (struct watch){.inode = loader->inode, .fd = fd};
  strcpy(watch->device, loader->device);
}

/* By a perf event, which every kernel has that can stop a process. */
static void attach(int program, const struct target *target, const struct mapping *loader) {
  static const char *const names[] = {"_dl_debug_state", "dl_debug_state", 0};
  struct elf_file elf;
  uint64_t offset;
  int file = target_open_mapped(target, loader), fd = -1;
  if (file < 0)
    return; /* it has ended meanwhile */
  bool is_elf = elf_file_read(&elf, file);
  if (is_elf && elf_symbols_find(&elf, names, &offset)) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    /* Others have files whose names begin like a loader's. */
    if (!uprobe_events(program, path, &offset, 1, 0, false, &fd)) {
      warn("cannot watch what process %d loads: %s", target->pid, strerror(errno));
      fd = -1;
    }
  }
  add(loader, fd);
  elf_file_close(&elf);
}

void loader_watch_end(const int *beside, size_t count) {
  int *fds = allocate(watch_count + count, sizeof(*fds));
  memcpy(fds, beside, count * sizeof(*fds));
  for (size_t i = 0; i < watch_count; i++)
    if (watches[i].fd >= 0)
      fds[count++] = watches[i].fd;
  uprobe_close(fds, count);
  free(fds);
  watch_count = 0;
}

void loader_watch_leave(void) {
  for (size_t i = 0; i < watch_count; i++)
    if (watches[i].fd >= 0)
      close(watches[i].fd);
  watch_count = 0;
}

void loader_watch(int program, const struct target *target, const struct mapping *mappings,
                  size_t count) {
  for (size_t i = 0; i < count; i++)
    if (is_loader(mappings[i].path) && !find(&mappings[i]))
      attach(program, target, &mappings[i]);
}
