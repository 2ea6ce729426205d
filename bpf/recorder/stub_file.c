/* SPDX-License-Identifier: Apache-2.0 */
#include "stub_file.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RINGS_LEAST 8
#define RECORDS_LEAST 16 /* of a ring */

/* ---- Which file it is */

/* A line of /proc/PID/maps. */
struct span {
  uint64_t start, end, inode;
  unsigned major, minor;
  char mode[5];
};

static bool find_span(const struct target *target, uint64_t start, struct span *span) {
  char *maps = target_read(target, "maps", 0), *line = maps;
  bool is_found = false;
  while (line && *line && !is_found) {
    is_found = sscanf(line, "%lx-%lx %4s %*x %x:%x %lu", &span->start, &span->end, span->mode,
                      &span->major, &span->minor, &span->inode) == 6 &&
               span->start == start;
    line = strchr(line, '\n');
    line = line ? line + 1 : 0;
  }
  free(maps);
  return is_found;
}

/* What is mapped there is looked at before it is opened, for to open a device does something. The
 * target can write to this very file, or we would not on its behalf; and nobody can make it
 * shorter. */
static int open_span(const struct target *target, const struct span *span) {
  char path[64];
  struct stat status;
  snprintf(path, sizeof(path), "map_files/%lx-%lx", span->start, span->end);
  int found = openat(target->folder, path, O_PATH | O_CLOEXEC), fd = -1;
  if (found >= 0 && !fstat(found, &status) && S_ISREG(status.st_mode) &&
      status.st_ino == span->inode && major(status.st_dev) == span->major &&
      minor(status.st_dev) == span->minor && status.st_size >= (off_t)FILE_SIZE) {
    snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
    fd = open(path, O_RDWR | O_CLOEXEC);
  }
  if (found >= 0)
    close(found);
  if (fd >= 0 && !(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK)) {
    close(fd);
    fd = -1;
  }
  return fd;
}

static const char *open_file(struct stub_file *file, const struct target *target, uint64_t start) {
  struct span span;
  if (!find_span(target, start, &span) || strcmp(span.mode, "rw-s"))
    return "the file of its rings is not mapped";
  file->file = open_span(target, &span);
  return file->file < 0 ? "the file of its rings is not the library's own" : 0;
}

/* ---- The page */

static bool read_page(const struct stub_file *file, struct stub_page *page) {
  return pread(file->memory, page, sizeof(*page), file->page) == sizeof(*page);
}

static bool write_page(const struct stub_file *file, size_t offset, uint64_t value) {
  return pwrite(file->memory, &value, sizeof(value), file->page + offset) == sizeof(value);
}

/* Whether somebody else who records has switched it on. Words of one that was killed stay. */
static bool is_used(const struct stub_page *page) {
  char path[32], own[16] = "", other[16] = "";
  for (unsigned i = 0; i < STUBS; i++) {
    pid_t pid = (uint32_t)page->switches[i];
    if (!page->switches[i] || pid == getpid() || pid <= 0)
      continue;
    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    FILE *name = fopen(path, "re"), *mine = fopen("/proc/self/comm", "re");
    bool is_ours = name && mine && fgets(other, sizeof(other), name) &&
                   fgets(own, sizeof(own), mine) && !strcmp(own, other);
    if (name)
      fclose(name);
    if (mine)
      fclose(mine);
    if (is_ours)
      return true;
  }
  return false;
}

static bool is_power(uint64_t value) { return value && !(value & (value - 1)); }

/* As many rings as there may be threads that compute, and some more: the fewer, the larger. In a
 * process that has been recorded before they stay as they are: a thread may be writing. */
static bool divide(struct stub_file *file, const struct stub_page *page, size_t size) {
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  file->rings = page->rings;
  file->mask = page->mask;
  if (page->rings)
    return page->rings <= RINGS_MAX && page->mask < RECORDS_MAX && is_power(page->mask + 1) &&
           page->rings * (page->mask + 1) <= RECORDS_MAX;
  file->rings = RINGS_LEAST;
  while (file->rings < 2 * cpus && file->rings < RINGS_MAX)
    file->rings *= 2;
  uint64_t records = size / sizeof(struct stub_record);
  records = records < RECORDS_MAX ? records : RECORDS_MAX;
  records = records > RECORDS_LEAST * file->rings ? records : RECORDS_LEAST * file->rings;
  file->mask = records / file->rings - 1;
  return write_page(file, offsetof(struct stub_page, mask), file->mask) &&
         write_page(file, offsetof(struct stub_page, rings), file->rings);
}

bool stub_file_open(struct stub_file *file, const struct target *target, uint64_t page, size_t size,
                    const char **why) {
  struct stub_page found;
  *file = (struct stub_file){.memory = -1, .file = -1, .page = page};
  file->memory = openat(target->folder, "mem", O_RDWR | O_CLOEXEC);
  if (file->memory < 0 || !read_page(file, &found))
    *why = "its memory cannot be read";
  else if (found.state != PAGE_READY)
    *why = "the audit library has no rings there";
  else if (is_used(&found))
    *why = "another recording uses its stubs";
  else if (!(*why = open_file(file, target, found.file)) && !divide(file, &found, size))
    *why = "its rings are damaged";
  return !*why;
}

bool stub_file_switch(const struct stub_file *file, const bool *on, uint64_t word) {
  uint64_t switches[STUBS];
  for (unsigned i = 0; i < STUBS; i++)
    switches[i] = on[i] ? word : 0;
  return pwrite(file->memory, switches, sizeof(switches), file->page) == sizeof(switches);
}

bool stub_file_leave(const struct stub_file *file, uint64_t op_at, const int32_t ops[2]) {
  const struct {
    uint64_t op_at;
    int32_t ops[2];
  } left = {op_at, {ops[0], ops[1]}};
  return pwrite(file->memory, &left, sizeof(left), file->page + PAGE_OP_AT) == sizeof(left);
}

/* ---- The file */

static bool read_at(const struct stub_file *file, void *to, size_t size, uint64_t offset) {
  return pread(file->file, to, size, offset) == (ssize_t)size;
}

bool stub_file_head(const struct stub_file *file, unsigned ring, struct stub_ring *head) {
  return read_at(file, head, sizeof(*head), ring_offset(ring, file->mask));
}

bool stub_file_lost(const struct stub_file *file, struct file_head *head) {
  return read_at(file, head, sizeof(*head), 0);
}

size_t stub_file_read(const struct stub_file *file, unsigned ring, uint64_t from, size_t count,
                      struct stub_record *records) {
  uint64_t at = from & file->mask, until_end = file->mask + 1 - at;
  count = count < until_end ? count : until_end;
  uint64_t offset = ring_offset(ring, file->mask) + RING_HEAD + at * sizeof(*records);
  return read_at(file, records, count * sizeof(*records), offset) ? count : 0;
}

void stub_file_taken(const struct stub_file *file, unsigned ring, uint64_t taken) {
  uint64_t offset = ring_offset(ring, file->mask);
  if (pwrite(file->file, &taken, sizeof(taken), offset + offsetof(struct stub_ring, taken)) < 0 ||
      pwrite(file->file, &taken, sizeof(taken), offset + offsetof(struct stub_ring, taken_again)) <
          0)
    warn("cannot give room back to a thread: %s", strerror(errno));
}
