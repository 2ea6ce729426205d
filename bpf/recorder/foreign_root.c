/* SPDX-License-Identifier: Apache-2.0 */
#include "foreign_root.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VARIABLE "LD_AUDIT="
#define ENVIRONMENT_MAX ((size_t)8 << 20)

static char *library; /* 0: nothing of ours is in anybody's environment */

void foreign_root_audit(const char *audit) {
  const char *colon = strrchr(audit, ':');
  free(library);
  library = *audit ? text("%s", colon ? colon + 1 : audit) : 0;
}

/* ---- Which root */

static bool is_ours(const struct target *target) {
  struct stat ours, theirs;
  char own[64], other[64];
  ssize_t own_length = readlink("/proc/self/ns/mnt", own, sizeof(own));
  ssize_t length = readlinkat(target->folder, "ns/mnt", other, sizeof(other));
  return stat("/", &ours) || fstatat(target->folder, "root", &theirs, 0) ||
         (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino && own_length > 0 &&
          own_length == length && !memcmp(own, other, length));
}

/* Its links lead where they lead in there. */
static bool has_library(const struct target *target) {
  struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
  int root = openat(target->folder, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0)
    return true; /* not known */
  const char *path = library + strspn(library, "/");
  int file = syscall(SYS_openat2, root, path, &how, sizeof(how));
  if (file < 0 && errno == ENOSYS) /* before Linux 5.6 */
    file = openat(root, path, O_PATH | O_CLOEXEC);
  bool is_there = file >= 0;
  if (is_there)
    close(file);
  close(root);
  return is_there;
}

/* ---- Its environment */

/* Where the strings stand in its memory; they end at *end. 0: not known. */
static uint64_t find_environment(const struct target *target, uint64_t *end) {
  enum { STATE = 3, ENV_START = 50 };
  char *stat = target_read(target, "stat", 0);
  const char *at = stat ? strrchr(stat, ')') : 0;
  uint64_t start = 0;
  for (int field = STATE - 1; at && field < ENV_START; field++) {
    at = strchr(at, ' ');
    at = at ? at + 1 : 0;
  }
  if (!at || sscanf(at, "%lu %lu", &start, end) != 2)
    start = 0;
  free(stat);
  return start;
}

bool foreign_root_take_out(char *strings, size_t length, const char *taken, size_t *begin,
                           size_t *changed) {
  size_t own = strlen(taken), size;
  for (char *at = strings; at < strings + length; at += size + 1) {
    size = strnlen(at, strings + length - at);
    if (strncmp(at, VARIABLE, strlen(VARIABLE)) || at + size == strings + length)
      continue;
    for (char *name = at + strlen(VARIABLE), *next; name < at + size; name = next) {
      size_t part = strcspn(name, ":");
      next = name + part + (name[part] == ':');
      if (part != own || memcmp(name, taken, own))
        continue;
      *begin = at - strings;
      *changed = size;
      if (name > at + strlen(VARIABLE) && next == at + size)
        name--; /* the last: the colon before it goes, too */
      memmove(name, next, at + size - next);
      memset(name + (at + size - next), 0, next - name);
      return true;
    }
  }
  return false;
}

static void take_out(int memory, uint64_t start, size_t length) {
  char *strings = allocate(length + 1, 1);
  size_t begin, changed;
  if (pread(memory, strings, length, start) == (ssize_t)length &&
      foreign_root_take_out(strings, length, library, &begin, &changed)) {
    ssize_t written = pwrite(memory, strings + begin, changed, start + begin);
    (void)written;
  }
  free(strings);
}

void foreign_root_tidy(const struct target *target) {
  uint64_t end = 0;
  if (!library || is_ours(target) || has_library(target))
    return;
  uint64_t start = find_environment(target, &end);
  int memory = openat(target->folder, "mem", O_RDWR | O_CLOEXEC);
  if (memory < 0)
    return;
  if (start && end > start && end - start <= ENVIRONMENT_MAX)
    take_out(memory, start, end - start);
  close(memory);
}
