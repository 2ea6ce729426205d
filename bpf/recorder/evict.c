/* SPDX-License-Identifier: Apache-2.0 */
#include "evict.h"
#include "failure.h"
#include "models.h"
#include "named_models.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* It has the same number on every machine; headers may be too old for it. */
#define PROCESS_MADVISE 440
#define PAGEOUT 21
#define STEP (1ull << 30)
#define TRIES 5
#define BETWEEN_US 20000

struct evicted {
  json_object *files, *notes;
  const struct target *target;
  struct models *models; /* that it has mapped; or 0 */
  struct set done;       /* files, however they are named */
};

/* ---- Files that are mapped */

/* The next region of a listing; false after the last. */
static bool next_region(struct listing *listing, struct region *region) {
  size_t length;
  char *line;
  while ((line = listing_next(listing, &length)))
    if (region_parse(line, length, region))
      return true;
  listing_close(listing);
  return false;
}

/* Takes pages out of a process's page tables, without which they could not be dropped. What the
 * kernel refuses stays, and is counted. */
static void page_out(const struct target *target, const struct region *region) {
  for (uint64_t at = region->start; at < region->end; at += STEP) {
    uint64_t length = region->end - at < STEP ? region->end - at : STEP;
    struct iovec part = {(void *)(uintptr_t)at, length};
    syscall(PROCESS_MADVISE, target->pidfd, &part, 1ul, PAGEOUT, 0u);
  }
}

static void page_out_models(const struct evicted *evicted) {
  static struct listing listing;
  struct region region;
  if (evicted->models && evicted->models->held && listing_open(&listing, evicted->target))
    while (next_region(&listing, &region))
      if (models_have(evicted->models, &region))
        page_out(evicted->target, &region);
}

/* ---- One file */

/* What has not been written yet could not be dropped. */
static void write_through(int fd) {
  if (fsync(fd))
    errno = 0; /* then it stays, and is counted */
}

/* Bytes of a file that are in memory; -1 where the kernel does not tell. */
static int64_t resident(int fd, uint64_t size) {
  static unsigned char pages[16384];
  const uint64_t page = sysconf(_SC_PAGESIZE), window = sizeof(pages) * page;
  int64_t found = 0;
  if (!size)
    return 0;
  char *mapped = mmap(0, size, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED)
    return -1;
  for (uint64_t at = 0; at < size && found >= 0; at += window) {
    uint64_t length = size - at < window ? size - at : window;
    if (mincore(mapped + at, length, pages)) {
      found = -1;
      break;
    }
    for (uint64_t i = 0; i < (length + page - 1) / page; i++)
      found += pages[i] & 1 ? page : 0;
  }
  munmap(mapped, size);
  return found;
}

static void evict_file(struct evicted *evicted, int fd, const char *path) {
  struct stat status;
  if (fstat(fd, &status) || !set_add(&evicted->done, (uint64_t)status.st_ino << 20 ^ status.st_dev))
    return;
  write_through(fd);
  int64_t left = -1;
  for (int try = 0; try < TRIES && left; try++) {
    if (try) { /* pages that another CPU had in its hands stay the first time, mapped or not */
      usleep(BETWEEN_US);
      page_out_models(evicted);
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    left = resident(fd, status.st_size);
    if (left < 0)
      break;
  }
  json_object *file = json_object_new_object();
  json_object_object_add(file, "path", json_object_new_string(path));
  json_object_object_add(file, "bytes", json_object_new_int64(status.st_size));
  json_object_object_add(file, "left", left < 0 ? 0 : json_object_new_int64(left));
  json_object_array_add(evicted->files, file);
  if (!left)
    return;
  char *count = left < 0 ? text("an unknown number") : text("%" PRId64, left);
  char *note =
      text("%s of %" PRId64 " bytes of %s stay in memory", count, (int64_t)status.st_size, path);
  json_object_array_add(evicted->notes, json_object_new_string(note));
  free(count);
  free(note);
}

static void evict_mapped(struct evicted *evicted) {
  const struct target *target = evicted->target;
  static struct listing listing;
  struct models models = {.may_read = true};
  struct region region;
  struct set files = {0};
  evicted->models = &models;
  if (listing_open(&listing, target))
    while (next_region(&listing, &region))
      models_examine(&models, target, &region, &files);
  free(files.slots);
  for (size_t i = 0; i < models.count; i++)
    if (models.list[i].fd >= 0)
      write_through(models.list[i].fd);
  page_out_models(evicted);
  for (size_t i = 0; i < models.count; i++)
    if (models.list[i].fd >= 0)
      evict_file(evicted, models.list[i].fd, models.list[i].path);
  models_close(&models);
  evicted->models = 0;
}

static void evict_named(void *evicted, int fd, const char *path) {
  if (models_begins(fd, true) == LIKE_A_MODEL)
    evict_file(evicted, fd, path);
  close(fd);
}

json_object *evict(const struct target *target, json_object *notes) {
  struct evicted evicted = {.files = json_object_new_array(), .notes = notes, .target = target};
  evict_mapped(&evicted);
  if (!json_object_array_length(evicted.files))
    named_models(target, evict_named, &evicted);
  free(evicted.done.slots);
  if (!json_object_array_length(evicted.files))
    fail(EXIT_TARGET,
         "name the model's file on the command line of record --evict, or record without --evict",
         "process %d has no GGUF file mapped and its command line names no GGUF file, so --evict "
         "finds none",
         target->pid);
  return evicted.files;
}
