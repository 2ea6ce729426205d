/* SPDX-License-Identifier: Apache-2.0 */
#include "evict.h"
#include "failure.h"
#include "gguf.h"
#include "models.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* These have the same numbers on every machine; headers may be too old for them. */
#define OPENAT2 437
#define PROCESS_MADVISE 440
#define PAGEOUT 21
#define STEP (1ull << 30)
#define MAX_PARTS 1000

struct evicted {
  json_object *files, *notes;
  struct set done; /* files, however they are named */
};

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
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  int64_t left = resident(fd, status.st_size);
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

static void evict_mapped(struct evicted *evicted, const struct target *target) {
  static struct listing listing;
  struct models models = {0};
  struct region region;
  struct set files = {0};
  if (listing_open(&listing, target))
    while (next_region(&listing, &region))
      models_examine(&models, target, &region, &files);
  free(files.slots);
  for (size_t i = 0; i < models.count; i++)
    if (models.list[i].fd >= 0)
      write_through(models.list[i].fd);
  if (models.held && listing_open(&listing, target))
    while (next_region(&listing, &region))
      if (models_have(&models, &region))
        page_out(target, &region);
  for (size_t i = 0; i < models.count; i++)
    if (models.list[i].fd >= 0)
      evict_file(evicted, models.list[i].fd, models.list[i].path);
  models_close(&models);
}

/* ---- Files that the command line names */

/* A path as the target sees it, for looking at; -1 when there is none. */
static int find(const struct target *target, const char *path) {
  struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
  int folder = openat(target->folder, *path == '/' ? "root" : "cwd", O_PATH | O_CLOEXEC);
  int found = -1;
  if (folder < 0)
    return -1;
  if (*path == '/')
    found = syscall(OPENAT2, folder, path, &how, sizeof(how));
  if (*path != '/' || (found < 0 && errno == ENOSYS)) { /* there links lead out of its root */
    path += strspn(path, "/");
    found = openat(folder, *path ? path : ".", O_PATH | O_CLOEXEC);
  }
  close(folder);
  return found;
}

static void evict_path(struct evicted *evicted, const struct target *target, const char *path) {
  char link[32], magic[sizeof(GGUF_MAGIC) - 1];
  struct stat status;
  int found = find(target, path), fd = -1;
  snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
  /* A pipe or a device would notice that it is opened. */
  if (found >= 0 && !fstat(found, &status) && S_ISREG(status.st_mode))
    fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0 && pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
      !memcmp(magic, GGUF_MAGIC, sizeof(magic))) {
    char *shown = utf8(path, strlen(path));
    evict_file(evicted, fd, shown);
    free(shown);
  }
  if (fd >= 0)
    close(fd);
  if (found >= 0)
    close(found);
}

/* How many parts a model with such a name has ("m-00001-of-00003.gguf"); 0 when it is whole.
 * `stem`: bytes before the number. */
static unsigned parts_of(const char *path, size_t *stem) {
  static const char form[] = "-00000-of-00000.gguf";
  const size_t length = strlen(path), extra = sizeof(form) - 1;
  if (length < extra)
    return 0;
  const char *end = path + length - extra;
  for (size_t i = 0; i < extra; i++)
    if (form[i] == '0' ? end[i] < '0' || end[i] > '9' : end[i] != form[i])
      return 0;
  unsigned parts = strtoul(end + sizeof("-00000-of-") - 1, 0, 10);
  *stem = length - extra;
  return parts <= MAX_PARTS ? parts : 0;
}

/* An engine is told one part of a model, and opens all. */
static void evict_word(struct evicted *evicted, const struct target *target, const char *word) {
  size_t stem = 0;
  unsigned parts = parts_of(word, &stem);
  if (!parts)
    evict_path(evicted, target, word);
  for (unsigned i = 1; i <= parts; i++) {
    char *path = text("%.*s-%05u-of-%05u.gguf", (int)stem, word, i, parts);
    evict_path(evicted, target, path);
    free(path);
  }
}

static void evict_named(struct evicted *evicted, const struct target *target) {
  size_t length = 0;
  char *line = target_read(target, "cmdline", &length);
  for (const char *word = line; word && word < line + length; word += strlen(word) + 1) {
    const char *value = *word == '-' ? strchr(word, '=') : 0;
    evict_word(evicted, target, word);
    if (value) /* --model=FILE */
      evict_word(evicted, target, value + 1);
  }
  free(line);
}

json_object *evict(const struct target *target, json_object *notes) {
  struct evicted evicted = {.files = json_object_new_array(), .notes = notes};
  evict_mapped(&evicted, target);
  if (!json_object_array_length(evicted.files))
    evict_named(&evicted, target);
  free(evicted.done.slots);
  if (!json_object_array_length(evicted.files))
    fail(EXIT_TARGET,
         "name the model's file on the command line of record --evict, or record without --evict",
         "process %d has no GGUF file mapped and its command line names no GGUF file, so --evict "
         "finds none",
         target->pid);
  return evicted.files;
}
