/* SPDX-License-Identifier: Apache-2.0 */
#include "mounts.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

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

void mounts_hide_processes(int mountinfo) {
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
    if (mount("profinfer", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=0555,size=4k"))
      report_failure("%s cannot be hidden: %s", path, strerror(errno));
  }
  free(line);
  fclose(file);
}
