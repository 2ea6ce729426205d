/* SPDX-License-Identifier: Apache-2.0 */
#include "mounts.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

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

static int cover(const char *path) {
  const char *options = "mode=0555,size=4k";
  return mount("profinfer", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, options);
}

/* A single file of such a file system: an empty one takes its place. */
static int cover_file(const char *path, const char *empty) {
  int file = open(empty, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
  if (file < 0 || close(file) || mount(empty, path, NULL, MS_BIND, NULL))
    return -1;
  mounts_protect(path);
  return 0;
}

void mounts_hide_processes(int mountinfo, const char *empty) {
  FILE *file = fdopen(mountinfo, "r");
  char *line = NULL, path[4096], kind[64];
  size_t size = 0;
  if (!file)
    report_failure("cannot see what is mounted");
  while (getline(&line, &size, file) >= 0) {
    const char *rest = strstr(line, " - ");
    if (!rest || sscanf(line, "%*s %*s %*s %*s %4095s", path) != 1 ||
        sscanf(rest, " - %63s", kind) != 1 || strcmp(kind, "proc"))
      continue;
    unescape(path);
    if (cover(path) && (errno != ENOTDIR || cover_file(path, empty)))
      report_failure("%s cannot be hidden: %s", path, strerror(errno));
  }
  free(line);
  fclose(file);
}
