/* SPDX-License-Identifier: Apache-2.0 */
#include "open_files.h"
#include "failure.h"
#include "named_models.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Files that are looked at, in order of their numbers: a server has as many connections as it
 * likes. */
#define MAX_OPEN 1024
/* No model is smaller: it has a header and some tensors. */
#define LEAST_SIZE 4096

uint64_t open_files_count(const struct target *target) {
  struct stat status;
  return fstatat(target->folder, "fd", &status, 0) ? 0 : status.st_size;
}

struct file_info file_info_parse(const char *text) {
  struct file_info info = {.mount = -1};
  for (const char *line = text; line; line = strchr(line, '\n'), line += line ? 1 : 0) {
    sscanf(line, "flags:%o", &info.flags);
    sscanf(line, "mnt_id:%d", &info.mount);
    sscanf(line, "ino:%" SCNu64, &info.inode);
  }
  return info;
}

/* As mappings and reads number it, which is not what stat says of every file system. */
static uint32_t device_of(const struct target *target, int mount, dev_t otherwise) {
  char *mounts = target_read(target, "mountinfo", 0), *rest;
  uint32_t device = major(otherwise) << 20 | minor(otherwise);
  for (char *line = mounts ? strtok_r(mounts, "\n", &rest) : 0; line;
       line = strtok_r(0, "\n", &rest)) {
    unsigned high, low;
    int id;
    if (sscanf(line, "%d %*d %u:%u", &id, &high, &low) == 3 && id == mount)
      device = high << 20 | low;
  }
  free(mounts);
  return device;
}

/* What a link in /proc leads to, as it is shown; without what the kernel says of deleted ones. */
static char *shown(int folder, const char *link) {
  static const char deleted[] = " (deleted)";
  const size_t extra = sizeof(deleted) - 1;
  char path[PATH_MAX];
  ssize_t length = readlinkat(folder, link, path, sizeof(path));
  if (length < 0)
    length = 0;
  if ((size_t)length > extra && !memcmp(path + length - extra, deleted, extra))
    length -= extra;
  return utf8(path, length);
}

static void keep(struct models *models, const struct target *target, struct model model) {
  struct model *known = models_find(models, model.device, model.inode);
  if (known) {
    known->is_seen |= model.is_seen;
    known->is_direct |= model.is_direct;
  } else if (!models_are_full(models)) {
    models_add(models, target, model);
    return;
  }
  close(model.fd);
  free(model.path);
}

static void look_at(struct models *models, const struct target *target, const char *name) {
  char link[32], told[32];
  struct stat status, itself;
  enum begins begins;
  snprintf(link, sizeof(link), "fd/%.10s", name);
  snprintf(told, sizeof(told), "fdinfo/%.10s", name);
  if (fstatat(target->folder, link, &status, 0) || !S_ISREG(status.st_mode) ||
      status.st_size < LEAST_SIZE)
    return;
  /* The link says what the file is open for. */
  if (fstatat(target->folder, link, &itself, AT_SYMLINK_NOFOLLOW) || !(itself.st_mode & S_IRUSR))
    return;
  int fd = models_open(target, link, models->may_read, &begins);
  if (fd < 0)
    return;
  char *text = target_read(target, told, 0);
  struct file_info info = file_info_parse(text);
  keep(models, target,
       (struct model){.device = device_of(target, info.mount, status.st_dev),
                      .inode = info.inode ? info.inode : status.st_ino,
                      .path = shown(target->folder, link),
                      .fd = fd,
                      .is_seen = true,
                      .is_direct = info.flags & O_DIRECT});
  free(text);
}

/* What getdents64 gives. */
struct entry {
  uint64_t inode, next;
  uint16_t length;
  uint8_t type;
  char name[];
};

/* Without memory of its own: this is done very often. */
void open_files_look(struct models *models, const struct target *target) {
  static _Alignas(struct entry) char entries[MAX_OPEN * 24];
  int folder = openat(target->folder, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  long length = folder < 0 ? -1 : syscall(SYS_getdents64, folder, entries, sizeof(entries));
  for (long at = 0; at < length;) {
    const struct entry *entry = (const struct entry *)(entries + at);
    if (*entry->name != '.')
      look_at(models, target, entry->name);
    at += entry->length;
  }
  if (folder >= 0)
    close(folder);
}

/* ---- Named ones */

struct names {
  struct models *models;
  const struct target *target;
};

static void keep_named(void *context, int fd, const char *path) {
  const struct names *names = context;
  const struct target ours = {.folder = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  enum begins begins = models_begins(fd, names->models->may_read);
  char told[32], link[32];
  struct stat status;
  snprintf(told, sizeof(told), "fdinfo/%d", fd);
  snprintf(link, sizeof(link), "fd/%d", fd);
  char *text = target_read(&ours, told, 0);
  struct file_info info = file_info_parse(text);
  if ((begins == LIKE_A_MODEL || begins == NOT_IN_MEMORY) && !fstat(fd, &status))
    keep(names->models, names->target,
         (struct model){.device = device_of(names->target, info.mount, status.st_dev),
                        .inode = info.inode ? info.inode : status.st_ino,
                        .path = *path == '/' ? utf8(path, strlen(path)) : shown(ours.folder, link),
                        .fd = fd});
  else
    close(fd);
  free(text);
  close(ours.folder);
}

void open_files_look_at_names(struct models *models, const struct target *target) {
  struct names names = {models, target};
  named_models(target, keep_named, &names);
}
