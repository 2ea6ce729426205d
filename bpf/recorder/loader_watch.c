/* SPDX-License-Identifier: Apache-2.0 */
#include "loader_watch.h"
#include "elf_symbols.h"
#include "failure.h"
#include "target.h"
#include "uprobe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A script may start thousands of processes: those that have ended are looked for from so many on.
 */
#define MANY 64

static struct watch {
  pid_t pid;
  int fd;
  uint64_t inode; /* of the loader: another one may come with exec */
  char device[16];
} * watches;
static size_t watch_count, watch_room;

static bool is_loader(const char *path) {
  static const char *const prefixes[] = {"ld-", "ld.", "ld64"};
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
    if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
      return true;
  return false;
}

static bool is_watched(pid_t pid, const struct mapping *loader) {
  for (size_t i = 0; i < watch_count; i++)
    if (watches[i].pid == pid && watches[i].inode == loader->inode &&
        !strcmp(watches[i].device, loader->device))
      return true;
  return false;
}

/* Takes away the watches of everybody who is not to be kept. */
static void drop(bool (*is_kept)(pid_t pid, pid_t wanted), pid_t wanted) {
  int *fds = allocate(watch_count, sizeof(*fds));
  size_t dropped = 0, kept = 0;
  for (size_t i = 0; i < watch_count; i++)
    if (is_kept(watches[i].pid, wanted))
      watches[kept++] = watches[i];
    else
      fds[dropped++] = watches[i].fd;
  watch_count = kept;
  uprobe_close(fds, dropped);
  free(fds);
}

static bool is_wanted(pid_t pid, pid_t wanted) { return pid == wanted; }

static bool is_alive(pid_t pid, pid_t unused) {
  (void)unused;
  return kill(pid, 0) == 0 || errno == EPERM;
}

void loader_watch_only(pid_t kept) { drop(is_wanted, kept); }

void loader_watch_leave(void) {
  for (size_t i = 0; i < watch_count; i++)
    close(watches[i].fd);
  watch_count = 0;
}

static void add(pid_t pid, const struct mapping *loader, int fd) {
  if (watch_count == watch_room) {
    watch_room = watch_room ? 2 * watch_room : MANY;
    watches = reallocarray(watches, watch_room, sizeof(*watches));
    if (!watches)
      fail(EXIT_KERNEL, "", "out of memory");
  }
  struct watch *watch = &watches[watch_count++];
  *watch = (struct watch){.pid = pid, .fd = fd, .inode = loader->inode};
  strcpy(watch->device, loader->device);
}

/* By a perf event, which every kernel has that can stop a process. */
static void attach(int program, const struct target *target, const struct mapping *loader) {
  static const char *const names[] = {"_dl_debug_state", "dl_debug_state", 0};
  struct elf_file elf;
  uint64_t offset;
  int file = target_open_mapped(target, loader), fd;
  if (file < 0)
    return; /* it has ended meanwhile */
  bool is_elf = elf_file_read(&elf, file);
  if (is_elf && elf_symbols_find(&elf, names, &offset)) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    if (uprobe_events(program, path, &offset, 1, target->pid, false, &fd))
      add(target->pid, loader, fd);
    else if (errno != ESRCH)
      fail(EXIT_PROBES, "", "cannot watch what process %d loads: %s", target->pid, strerror(errno));
  }
  elf_file_close(&elf);
}

void loader_watch(int program, pid_t pid) {
  struct target target;
  size_t count = 0;
  if (!target_try(pid, &target))
    return;
  if (watch_count >= MANY && watch_count == watch_room)
    drop(is_alive, 0);
  struct mapping *mappings = target_try_mappings(&target, &count);
  for (size_t i = 0; i < count; i++)
    if (is_loader(mappings[i].path) && !is_watched(pid, &mappings[i]))
      attach(program, &target, &mappings[i]);
  mappings_free(mappings, count);
  target_close(&target);
}
