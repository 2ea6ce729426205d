/* SPDX-License-Identifier: Apache-2.0 */
#include "mounts.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of looking, while folders above a mount may be exchanged. */
enum { MOST_ROUNDS = 1000 };

void mounts_protect(const char *path) {
  struct mount_attr attributes = {.attr_set =
                                      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
  unsigned flags = AT_RECURSIVE | AT_SYMLINK_NOFOLLOW;
  if (!mount_setattr(AT_FDCWD, path, flags, &attributes, sizeof attributes))
    return;
  if (errno != ENOSYS)
    report_failure("%s cannot be protected: %s", path, strerror(errno));
  mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL);
}

/* Paths there have \040 for a space. */
static void unescape(char *path) {
  char *to = path;
  for (char *from = path; *from; to++) {
    if (*from == '\\' && strspn(from + 1, "01234567") >= 3) {
      *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
      from += 4;
    } else {
      *to = *from++;
    }
  }
  *to = 0;
}

/* A line of mountinfo. */
struct mounted {
  int id, parent;
  char *path;
  bool is_proc;
};

struct list {
  struct mounted *mounts;
  size_t count;
};

static struct list read_list(int proc) {
  int opened = openat(proc, "self/mountinfo", O_RDONLY | O_CLOEXEC);
  FILE *file = opened < 0 ? NULL : fdopen(opened, "r");
  struct list list = {NULL, 0};
  char *line = NULL, path[4096], kind[64];
  size_t size = 0, room = 0;
  int id, parent;
  if (!file)
    report_failure("cannot see what is mounted");
  while (getline(&line, &size, file) >= 0) {
    const char *rest = strstr(line, " - ");
    if (!rest || sscanf(line, "%d %d %*s %*s %4095s", &id, &parent, path) != 3 ||
        sscanf(rest, " - %63s", kind) != 1)
      continue;
    unescape(path);
    if (list.count == room) {
      room = 2 * room + 64;
      list.mounts = reallocarray(list.mounts, room, sizeof *list.mounts);
      if (!list.mounts)
        report_failure("out of memory");
    }
    list.mounts[list.count++] =
        (struct mounted){id, parent, report_text("%s", path), !strcmp(kind, "proc")};
  }
  free(line);
  fclose(file);
  return list;
}

/* Whether something is mounted on it, at the same place. */
static bool is_covered(const struct list *list, const struct mounted *mounted) {
  for (size_t i = 0; i < list->count; i++)
    if (list->mounts[i].parent == mounted->id && !strcmp(list->mounts[i].path, mounted->path))
      return true;
  return false;
}

/* In which mount an open file is, or -1. */
static int mount_of(int proc, int file) {
  int opened = openat(proc, report_text("self/fdinfo/%d", file), O_RDONLY | O_CLOEXEC), id;
  FILE *info = opened < 0 ? NULL : fdopen(opened, "r");
  bool is_found = info && fscanf(info, "pos: %*s flags: %*s mnt_id: %d", &id) == 1;
  if (info)
    fclose(info);
  return is_found ? id : -1;
}

static bool cover_folder(int folder) {
  const char *options = "mode=0555,size=4k";
  unsigned long flags = MS_NOSUID | MS_NODEV | MS_RDONLY;
  return !fchdir(folder) && !mount("profinfer", ".", "tmpfs", flags, options) && !chdir("/");
}

/* A single file of such a file system: an empty one takes its place. */
static bool cover_file(int file, const char *empty) {
  int made = open(empty, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
  int tree = made < 0 ? -1 : open_tree(AT_FDCWD, empty, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
  bool is_covered =
      tree >= 0 && !mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) &&
      !move_mount(tree, "", file, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  close(tree);
  close(made);
  return is_covered;
}

/* By descriptors, since folders above it may be exchanged: nothing but that very mount. */
static void cover(int proc, const struct mounted *mounted, const char *empty) {
  int opened = open(mounted->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat status;
  if (opened < 0)
    return;
  if (mount_of(proc, opened) == mounted->id && !fstat(opened, &status) &&
      !(S_ISDIR(status.st_mode) ? cover_folder(opened) : cover_file(opened, empty)))
    report_failure("%s cannot be hidden: %s", mounted->path, strerror(errno));
  close(opened);
}

void mounts_hide_processes(int proc, const char *empty) {
  const struct mounted *seen;
  int rounds = 0;
  do {
    struct list list = read_list(proc);
    seen = NULL;
    for (size_t i = 0; i < list.count; i++) {
      const struct mounted *mounted = &list.mounts[i];
      if (mounted->is_proc && !is_covered(&list, mounted)) {
        seen = mounted;
        cover(proc, mounted, empty);
      }
    }
    if (seen && ++rounds == MOST_ROUNDS)
      report_failure("%s cannot be hidden", seen->path);
    for (size_t i = 0; i < list.count; i++)
      free(list.mounts[i].path);
    free(list.mounts);
  } while (seen);
}
