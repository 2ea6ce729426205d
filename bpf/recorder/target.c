/* SPDX-License-Identifier: Apache-2.0 */
#include "target.h"
#include "failure.h"
#include "regions.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Noreturn void has_ended(const struct target *target) {
  fail(EXIT_TARGET, "", "process %d has ended", target->pid);
}

struct target target_open(pid_t pid) {
  struct target target = {.pid = pid};
  char *path = text("/proc/%d", pid);
  target.folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (target.folder < 0 && errno == ENOENT)
    fail(EXIT_TARGET, "give the PID of a running engine", "process %d does not exist", pid);
  if (target.folder < 0)
    fail(EXIT_PRIVILEGE, "run it as root", "cannot open %s: %s", path, strerror(errno));
  free(path);
  char *status = target_read(&target, "status", 0);
  const char *leader = status ? strstr(status, "\nTgid:") : 0;
  int tgid = leader ? atoi(leader + 6) : 0;
  if (!tgid || target_has_ended(&target))
    has_ended(&target);
  if (tgid != pid)
    fail(EXIT_TARGET, text("--pid %d records that process", tgid),
         "%d is not a process but a thread of process %d", pid, tgid);
  free(status);
  target.pidfd = syscall(SYS_pidfd_open, pid, 0);
  bool is_gone = target.pidfd < 0 && errno == ESRCH;
  /* Whose folder is still there has not lent its PID to another one before that. */
  status = is_gone ? 0 : target_read(&target, "status", 0);
  if (!status)
    has_ended(&target);
  free(status);
  return target;
}

bool target_try(pid_t pid, struct target *target) {
  char *path = text("/proc/%d", pid);
  *target = (struct target){.pid = pid, .pidfd = -1};
  target->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free(path);
  return target->folder >= 0;
}

void target_close(struct target *target) {
  close(target->folder);
  if (target->pidfd >= 0)
    close(target->pidfd);
}

bool target_has_ended(const struct target *target) {
  if (target->pidfd > 0) {
    struct pollfd ready = {target->pidfd, POLLIN, 0};
    return poll(&ready, 1, 0) > 0;
  }
  char *stat = target_read(target, "stat", 0);
  const char *state = stat ? strrchr(stat, ')') : 0;
  bool ended = !state || state[1] != ' ' || state[2] == 'Z' || state[2] == 'X';
  free(stat);
  return ended;
}

char *target_read(const struct target *target, const char *name, size_t *length) {
  size_t size = 4096, used = 0;
  int fd = openat(target->folder, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return 0;
  char *data = allocate(size, 1);
  ssize_t got;
  while ((got = read(fd, data + used, size - used - 1)) > 0) {
    used += got;
    if (size - used < 2) {
      data = realloc(data, size *= 2);
      if (!data)
        fail(EXIT_KERNEL, "", "out of memory");
    }
  }
  close(fd);
  if (got < 0) {
    free(data);
    return 0;
  }
  data[used] = 0;
  if (length)
    *length = used;
  return data;
}

char *target_name(const struct target *target, pid_t thread) {
  char path[64] = "comm";
  size_t length;
  if (thread)
    snprintf(path, sizeof(path), "task/%d/comm", thread);
  char *name = target_read(target, path, &length);
  if (!name || !length) {
    free(name);
    return 0;
  }
  if (name[length - 1] == '\n')
    length--;
  char *valid = utf8(name, length);
  free(name);
  return valid;
}

/* "start-end mode offset device inode path": whether it is an executable mapping of a file. */
static bool parse_mapping(const char *line, struct mapping *found) {
  char mode[8];
  int path = 0;
  int fields =
      sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %15s %" SCNu64 " %n", &found->start,
             &found->end, mode, &found->offset, found->device, &found->inode, &path);
  if (fields != 6 || !path || !line[path] || !strchr(mode, 'x') || !found->inode)
    return false;
  static const char deleted[] = " (deleted)";
  size_t length = strlen(line + path), extra = sizeof(deleted) - 1;
  if (length > extra && !strcmp(line + path + length - extra, deleted))
    length -= extra;
  found->path = utf8(line + path, length);
  return true;
}

struct mapping *target_mappings(const struct target *target, size_t *count) {
  errno = 0;
  struct mapping *found = target_try_mappings(target, count);
  if (!found && errno == EACCES)
    fail(EXIT_PRIVILEGE, "run it as root", "not allowed to read /proc/%d/maps", target->pid);
  if (!found)
    has_ended(target);
  return found;
}

struct mapping *target_try_mappings(const struct target *target, size_t *count) {
  static struct listing listing;
  size_t length, room = 64;
  *count = 0;
  if (!listing_open(&listing, target))
    return 0;
  struct mapping *found = allocate(room, sizeof(*found));
  for (char *line; (line = listing_next(&listing, &length));) {
    if (*count == room) {
      found = reallocarray(found, room *= 2, sizeof(*found));
      if (!found)
        fail(EXIT_KERNEL, "", "out of memory");
    }
    *count += parse_mapping(line, &found[*count]);
  }
  listing_close(&listing);
  return found;
}

void mappings_free(struct mapping *mappings, size_t count) {
  for (size_t i = 0; i < count; i++)
    free(mappings[i].path);
  free(mappings);
}

#define MAP_FILE 64

static void name_mapped(const struct mapping *mapping, char path[MAP_FILE]) {
  snprintf(path, MAP_FILE, "map_files/%" PRIx64 "-%" PRIx64, mapping->start, mapping->end);
}

bool target_stat_mapped(const struct target *target, const struct mapping *mapping,
                        struct stat *status) {
  char path[MAP_FILE];
  name_mapped(mapping, path);
  return fstatat(target->folder, path, status, 0) == 0;
}

int target_open_mapped(const struct target *target, const struct mapping *mapping) {
  char path[MAP_FILE];
  name_mapped(mapping, path);
  /* O_NONBLOCK: whatever lies there must not stop us. */
  return openat(target->folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* Bytes of the UTF-8 sequence that begins there; 0 when none does. */
static size_t sequence(const unsigned char *at, size_t left) {
  static const struct {
    unsigned char mask, lead;
    uint32_t least;
  } kind[] = {{0x80, 0, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
  for (size_t more = 0; more < 4; more++) {
    if ((*at & kind[more].mask) != kind[more].lead)
      continue;
    uint32_t value = *at & (unsigned char)~kind[more].mask;
    if (more >= left)
      return 0;
    for (size_t i = 1; i <= more; i++) {
      if ((at[i] & 0xc0) != 0x80)
        return 0;
      value = value << 6 | (at[i] & 0x3f);
    }
    bool is_surrogate = value >= 0xd800 && value < 0xe000;
    return value < kind[more].least || value > 0x10ffff || is_surrogate ? 0 : more + 1;
  }
  return 0;
}

char *utf8(const char *bytes, size_t length) {
  char *valid = allocate(3 * length + 1, 1), *to = valid;
  for (size_t at = 0; at < length;) {
    size_t taken = sequence((const unsigned char *)bytes + at, length - at);
    if (taken) {
      to = mempcpy(to, bytes + at, taken);
    } else {
      to = mempcpy(to, "\xef\xbf\xbd", 3);
      taken = 1;
    }
    at += taken;
  }
  return valid;
}
