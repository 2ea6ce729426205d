/* SPDX-License-Identifier: Apache-2.0 */
#include "models.h"
#include "capture.h"
#include "failure.h"
#include "gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Large models come in 163 parts. As many files are held open, */
#define MAX_HELD 256
/* and so many are named at all. */
#define MAX_NAMED 1024
/* Bytes of all headers in a capture. */
#define MAX_HEADERS (256ull << 20)
/* What is smaller is no model whose beginning could be out of memory for long. */
#define LEAST_SIZE (64 << 10)

struct model *models_find(const struct models *models, uint32_t device, uint64_t inode) {
  for (size_t i = 0; i < models->count; i++)
    if (models->list[i].inode == inode && models->list[i].device == device)
      return &models->list[i];
  return 0;
}

bool models_have(const struct models *models, const struct region *region) {
  return models_find(models, region->device, region->inode);
}

/* Whether a device is an overlay file system that the target sees. */
static bool is_overlay(const struct target *target, uint32_t device) {
  int fd = openat(target->folder, "mountinfo", O_RDONLY | O_CLOEXEC);
  FILE *mounts = fd < 0 ? 0 : fdopen(fd, "r");
  char *line = 0;
  size_t room = 0;
  bool is_found = false;
  while (mounts && !is_found && getline(&line, &room, mounts) > 0) {
    unsigned major, minor;
    /* "ID parent major:minor root place options ... - type source options" */
    is_found = strstr(line, " - overlay ") && sscanf(line, "%*d %*d %u:%u", &major, &minor) == 2 &&
               (major << 20 | minor) == device;
  }
  free(line);
  if (mounts)
    fclose(mounts);
  return is_found;
}

void models_add(struct models *models, const struct target *target, struct model model) {
  if (model.fd >= 0 && models->held >= MAX_HELD) {
    close(model.fd);
    model.fd = -1;
    model.problem = text("only %d models are looked into", MAX_HELD);
  }
  models->list = reallocarray(models->list, models->count + 1, sizeof(*models->list));
  if (!models->list)
    fail(EXIT_KERNEL, "", "out of memory");
  model.is_overlaid = is_overlay(target, model.device);
  models->list[models->count++] = model;
  models->held += model.fd >= 0;
}

bool models_are_full(const struct models *models) { return models->count >= MAX_NAMED; }

static void add(struct models *models, const struct target *target, const struct region *region,
                int fd, char *problem) {
  models_add(models, target,
             (struct model){.device = region->device,
                            .inode = region->inode,
                            .path = utf8(region->path, region->path_length),
                            .fd = fd,
                            .problem = problem,
                            .is_seen = true});
}

static bool is_named_like_a_model(const struct region *region) {
  static const char ending[] = ".gguf";
  const size_t length = sizeof(ending) - 1;
  return region->path_length >= length &&
         !memcmp(region->path + region->path_length - length, ending, length);
}

/* Whether a file's beginning is in memory, as far as the kernel tells. */
static bool is_resident(int fd) {
  const size_t page = sysconf(_SC_PAGESIZE);
  unsigned char resident = 1;
  void *mapped = mmap(0, page, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED)
    return true;
  if (mincore(mapped, page, &resident))
    resident = 1;
  munmap(mapped, page);
  return resident & 1;
}

enum begins models_begins(int fd, bool may_read) {
  char magic[sizeof(GGUF_MAGIC) - 1];
  if (!may_read && !is_resident(fd)) /* to ask with RWF_NOWAIT would make the kernel read */
    return NOT_IN_MEMORY;
  ssize_t got = pread(fd, magic, sizeof(magic), 0);
  if (got < 0)
    return CANNOT_BE_READ;
  return got == sizeof(magic) && !memcmp(magic, GGUF_MAGIC, sizeof(magic)) ? LIKE_A_MODEL
                                                                           : LIKE_NONE;
}

int models_open(const struct target *target, const char *link, bool may_read, enum begins *begins) {
  struct stat status;
  *begins = LIKE_NONE;
  /* Opening a device may do something to it. */
  if (!fstatat(target->folder, link, &status, 0) && !S_ISREG(status.st_mode))
    return -1;
  int fd = openat(target->folder, link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  *begins = fd < 0 ? CANNOT_BE_READ : models_begins(fd, may_read);
  bool is_wanted = *begins == LIKE_A_MODEL ||
                   (*begins == NOT_IN_MEMORY && !fstat(fd, &status) && status.st_size > LEAST_SIZE);
  if (fd >= 0 && !is_wanted) {
    int error = errno;
    close(fd);
    errno = error;
  }
  return is_wanted ? fd : -1;
}

void models_examine(struct models *models, const struct target *target, const struct region *region,
                    struct set *files) {
  uint64_t file = (region->inode ^ (uint64_t)region->device << 32) * 0x9E3779B97F4A7C15ull | 1;
  struct model *model = models_find(models, region->device, region->inode);
  if (model)
    model->is_seen = true;
  /* A file that is held open keeps its number; any other may have been another one's before. */
  if (!region->inode || model || !set_add(files, file) || models_are_full(models))
    return;
  char link[64];
  snprintf(link, sizeof(link), "map_files/%" PRIx64 "-%" PRIx64, region->start, region->end);
  enum begins begins;
  int fd = models_open(target, link, models->may_read, &begins);
  /* What is not there any more was none. */
  if (begins == CANNOT_BE_READ && errno != ENOENT && is_named_like_a_model(region))
    add(models, target, region, -1, text("cannot be opened: %s", strerror(errno)));
  if (fd >= 0)
    add(models, target, region, fd, 0);
}

/* ---- The capture */

static ssize_t read_file(void *fd, void *to, size_t length, uint64_t offset) {
  ssize_t got;
  do
    got = pread(*(int *)fd, to, length, offset);
  while (got < 0 && errno == EINTR);
  return got;
}

/* The frame without the header's bytes: the length of a JSON text, and that text. `problem`: 0 for
 * none. In memory of its own. */
static char *describe(const struct model *model, uint64_t size, const char *problem,
                      size_t *length) {
  json_object *said = json_object_new_object();
  json_object_object_add(said, "path", json_object_new_string(model->path));
  json_object_object_add(said, "device", json_object_new_int64(model->device));
  json_object_object_add(said, "inode", json_object_new_uint64(model->inode));
  json_object_object_add(said, "size", json_object_new_uint64(size));
  json_object_object_add(said, "overlaid", json_object_new_boolean(model->is_overlaid));
  json_object_object_add(said, "seen", json_object_new_boolean(model->is_seen));
  json_object_object_add(said, "direct", json_object_new_boolean(model->is_direct));
  json_object_object_add(said, "problem", problem ? json_object_new_string(problem) : 0);
  const char *json = json_object_to_json_string_ext(said, JSON_C_TO_STRING_PLAIN);
  uint32_t bytes = strlen(json);
  char *made = allocate(sizeof(bytes) + bytes, 1);
  memcpy(made, &bytes, sizeof(bytes));
  memcpy(made + sizeof(bytes), json, bytes);
  *length = sizeof(bytes) + bytes;
  json_object_put(said);
  return made;
}

/* How many bytes of the header belong into the capture; 0 and why not. `size`: of the file. */
static uint64_t header_size(const struct model *model, uint64_t *size, uint64_t room,
                            const char **problem) {
  struct stat status;
  *problem = model->problem;
  if (model->fd < 0)
    return 0;
  if (fstat(model->fd, &status)) {
    *problem = "it cannot be looked at any more";
    return 0;
  }
  *size = status.st_size;
  uint64_t header = gguf_header_size(read_file, (void *)&model->fd, *size, problem);
  if (header <= room)
    return header;
  *problem = "the headers before it fill the room that a capture has for them";
  return 0;
}

/* Bytes of its header that were written. */
static uint64_t write_model(const struct model *model, uint64_t room) {
  uint64_t size = 0;
  const char *problem;
  size_t length;
  uint64_t header = header_size(model, &size, room, &problem);
  char *head = describe(model, size, problem, &length);
  if (!capture_copy(FRAME_MODEL, boot_ns(), head, length, model->fd, header)) {
    char *why = text("its header cannot be read: %s", strerror(errno));
    free(head);
    head = describe(model, size, why, &length);
    capture_frame(FRAME_MODEL, boot_ns(), head, length);
    free(why);
    header = 0;
  }
  free(head);
  return header;
}

void models_write(const struct models *models) {
  uint64_t room = MAX_HEADERS;
  for (size_t i = 0; i < models->count; i++) {
    const struct model *model = &models->list[i];
    if (model->fd < 0 || models_begins(model->fd, true) != LIKE_NONE)
      room -= write_model(model, room);
  }
}

void models_close(struct models *models) {
  for (size_t i = 0; i < models->count; i++) {
    if (models->list[i].fd >= 0)
      close(models->list[i].fd);
    free(models->list[i].path);
    free(models->list[i].problem);
  }
  free(models->list);
  *models = (struct models){0};
}
