/* SPDX-License-Identifier: Apache-2.0 */
#include "neighbours.h"
#include "copy.h"
#include "report.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than anybody keeps in one folder. */
enum { MOST = 1024 };

static void copy_link(int folder, const char *name, const char *path) {
  char target[PATH_MAX];
  ssize_t length = readlinkat(folder, name, target, sizeof target - 1);
  if (length <= 0)
    return;
  target[length] = 0;
  /* Wherever it leads, nobody reads more there than before. */
  if (symlink(target, path))
    report_failure("cannot make the link %s", path);
}

static void copy_library(int folder, const char *name, const char *path, size_t *left) {
  struct stat status;
  /* Whatever lies there must neither stop us nor lead elsewhere. */
  int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  int file = openat(folder, name, flags);
  if (file < 0)
    return;
  if (!fstat(file, &status) && S_ISREG(status.st_mode) && (size_t)status.st_size <= *left) {
    copy_file(file, (size_t)status.st_size, path, 0555);
    *left -= (size_t)status.st_size;
  }
  close(file);
}

void neighbours_copy(int from, const char *to, size_t *left) {
  DIR *folder = fdopendir(from);
  const struct dirent *entry;
  for (int count = 0; folder && count < MOST && (entry = readdir(folder)); count++) {
    struct stat status;
    const char *name = entry->d_name;
    char *path = report_text("%s/%s", to, name);
    if (!strstr(name, ".so") || !lstat(path, &status) ||
        fstatat(dirfd(folder), name, &status, AT_SYMLINK_NOFOLLOW))
      continue;
    if (S_ISLNK(status.st_mode))
      copy_link(dirfd(folder), name, path);
    else if (S_ISREG(status.st_mode))
      copy_library(dirfd(folder), name, path, left);
  }
  if (folder)
    closedir(folder);
}
