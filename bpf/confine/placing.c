/* SPDX-License-Identifier: Apache-2.0 */
#include "placing.h"
#include "copy.h"
#include "neighbours.h"
#include "reach.h"
#include "report.h"
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* More than any engine's libraries have, by their limit of memory. */
#define MOST_COPIES ((size_t)4 << 30)

/* The folders that have been mounted within reach: what they are, at HOME/0, HOME/1, ... */
struct bound {
  char **folders;
  size_t count;
};

/* Whether the dynamic loader could be told of a folder: it is given them all in one text. */
static bool can_be_listed(const char *folder) { return !strpbrk(folder, ":;$\n"); }

/* Whether a folder holds the object under that name: one that was exchanged for another meanwhile
 * is not shown to anybody for whom it is closed. */
static bool holds(int folder, const struct object *object) {
  struct stat found, meant;
  return !fstatat(folder, path_name(object->path), &found, 0) && !fstat(object->file, &meant) &&
         found.st_dev == meant.st_dev && found.st_ino == meant.st_ino;
}

/* The folder of an object, if it is there; else -1. */
static int open_folder(const struct object *object) {
  int folder = open(path_folder(object->path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0 || holds(folder, object))
    return folder;
  close(folder);
  return -1;
}

static void bind_folder(struct object *object, struct bound *bound) {
  char *path = path_folder(object->path);
  size_t i = 0;
  while (i < bound->count && strcmp(bound->folders[i], path) != 0)
    i++;
  char *place = report_text("%s/%zu", HOME, i);
  if (i == bound->count) {
    int folder = open_folder(object);
    if (folder < 0)
      return;
    root_bind(folder, place);
    close(folder);
    bound->folders[bound->count++] = path;
  }
  object->placed = report_text("%s/%s", place, path_name(object->path));
}

/* Two may have the same name: then one gets a folder of its own. */
static void copy_object(struct object *object, size_t number, size_t *left) {
  const char *name = path_name(object->path);
  size_t size = copy_size(object->file);
  if (size > *left)
    report_failure("%.300s is too large to be copied", name);
  *left -= size;
  char *folder = report_text("%s/copies", HOME);
  if (mkdir(folder, 0755) && errno != EEXIST)
    report_failure("cannot make %s: %s", folder, strerror(errno));
  object->placed = report_text("%s/%s", folder, name);
  struct stat status;
  if (!lstat(object->placed, &status)) {
    folder = report_text("%s/copy-%zu", HOME, number);
    if (mkdir(folder, 0755))
      report_failure("cannot make %s: %s", folder, strerror(errno));
    object->placed = report_text("%s/%s", folder, name);
  }
  copy_file(object->file, size, object->placed, 0555);
}

static bool is_denied(struct reach reach) { return reach.error == EACCES || reach.error == EPERM; }

static void bind_folders(struct arguments *arguments, struct reach *reaches) {
  struct bound bound = {report_allocate(arguments->object_count, sizeof(char *)), 0};
  bool is_any = false;
  for (size_t i = 0; i < arguments->object_count; i++) {
    struct object *object = &arguments->objects[i];
    object->placed = report_text("%s", object->path);
    if (is_denied(reaches[i]) || (reaches[i].is_it && !can_be_listed(path_folder(object->path)))) {
      bind_folder(object, &bound);
      is_any = true;
    }
  }
  if (is_any)
    reach_try(arguments, reaches);
}

size_t placing_size(const struct arguments *arguments) {
  size_t size = 0, most = MOST_COPIES;
  struct sysinfo system;
  if (!sysinfo(&system) && system.totalram < 2 * most / system.mem_unit)
    most = system.totalram * system.mem_unit / 2;
  for (size_t i = 0; i < arguments->object_count; i++) {
    size_t more = copy_size(arguments->objects[i].file);
    size = more < most - size ? size + more : most;
  }
  return size;
}

void placing_objects(struct arguments *arguments) {
  size_t count = arguments->object_count;
  size_t left = placing_size(arguments), left_of_neighbours = PLACING_NEIGHBOURS;
  struct reach *reaches = report_allocate(count, sizeof *reaches);
  reach_try(arguments, reaches);
  bind_folders(arguments, reaches);
  for (size_t i = 0; i < count; i++) {
    struct object *object = &arguments->objects[i];
    if (reaches[i].is_it)
      continue;
    if (!arguments->may_copy && (is_denied(reaches[i]) || !reach_may_read(arguments, object->file)))
      report_unreadable(path_name(object->path), EACCES);
    copy_object(object, i, &left);
  }
  /* Afterwards: where names are the same, what was asked for is meant. */
  for (size_t i = 0; i < count; i++) {
    const struct object *object = &arguments->objects[i];
    /* Beside another file of that name lies nothing that this one takes. */
    int folder = is_denied(reaches[i]) ? open_folder(object) : -1;
    if (folder >= 0)
      neighbours_copy(folder, path_folder(object->placed), &left_of_neighbours);
  }
}

void placing_leave(struct arguments *arguments) {
  struct reach *reaches = report_allocate(arguments->object_count, sizeof *reaches);
  reach_try(arguments, reaches);
  for (size_t i = 0; i < arguments->object_count; i++) {
    struct object *object = &arguments->objects[i];
    if (reaches[i].error)
      report_unreadable(path_name(object->path), reaches[i].error);
    object->placed = report_text("%s", object->path);
  }
}

char *placing_folders(const struct arguments *arguments) {
  size_t count = arguments->object_count;
  char *folders = report_text("%s", "");
  for (size_t i = 0; i < 2 * count; i++) {
    const struct object *object = &arguments->objects[i % count];
    const char *folder = path_folder(i < count ? object->placed : object->path);
    /* With colons around both, a part is not taken for a whole. */
    if (can_be_listed(folder) && !strstr(report_text(":%s:", folders), report_text(":%s:", folder)))
      folders = report_text("%s%s%s", folders, *folders ? ":" : "", folder);
  }
  return folders;
}
