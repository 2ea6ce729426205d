/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char magic[16] = CAPTURE_MAGIC;

static struct {
  const char *path;
  int fd;
  uint64_t size;
  bool is_ours; /* did not exist before */
} file = {.fd = -1};

/* A file that we made and never wrote to is removed again, whatever ended the process, unless
 * something else has taken its place. */
static void discard_empty(void) {
  struct stat ours, there;
  if (file.fd >= 0 && file.size == 0 && file.is_ours && !fstat(file.fd, &ours) &&
      !lstat(file.path, &there) && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
    unlink(file.path);
}

static void give_to_caller(void) {
  const char *uid = getenv("SUDO_UID"), *gid = getenv("SUDO_GID");
  char *uid_end, *gid_end;
  if (geteuid() != 0 || !uid || !gid || !*uid || !*gid)
    return;
  unsigned long user = strtoul(uid, &uid_end, 10), group = strtoul(gid, &gid_end, 10);
  if (!*uid_end && !*gid_end && fchown(file.fd, user, group))
    warn("%s stays root's: %s", file.path, strerror(errno));
}

static bool is_empty(const char *path) {
  struct stat status;
  return !lstat(path, &status) && S_ISREG(status.st_mode) && status.st_size == 0;
}

void capture_open(const char *path, int fd, bool force) {
  struct stat status;
  file.path = path;
  file.fd = fd;
  if (fd >= 0)
    return;
  /* Never follow a link that somebody may have put there: we are root. Nor wait for a pipe. */
  int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_APPEND;
  file.fd = open(path, flags | O_EXCL, 0600);
  file.is_ours = file.fd >= 0;
  /* An empty file holds nothing to lose: a killed recorder leaves one. */
  if (file.fd < 0 && errno == EEXIST && (force || is_empty(path)))
    file.fd = open(path, flags, 0600);
  if (file.fd < 0 && errno == EEXIST)
    fail(EXIT_OUTPUT, "--force overwrites it", "%s exists", path);
  if (file.fd < 0)
    fail(EXIT_OUTPUT, "", "cannot write %s: %s", path,
         errno == ELOOP ? "is a symbolic link" : strerror(errno));
  if (fstat(file.fd, &status) || !S_ISREG(status.st_mode))
    fail(EXIT_OUTPUT, "", "cannot write %s: not a regular file", path);
  atexit(discard_empty);
  give_to_caller();
}

/* Writes all of it; false, with errno, when it cannot. */
static bool write_all(struct iovec *part, int parts) {
  while (parts) {
    ssize_t written = writev(file.fd, part, parts);
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return false;
    while (parts && (size_t)written >= part->iov_len) {
      written -= part->iov_len;
      part++;
      parts--;
    }
    if (parts) {
      part->iov_base = (char *)part->iov_base + written;
      part->iov_len -= written;
    }
  }
  return true;
}

/* Back to the frames that are whole. */
static void cut_back(void) {
  if (ftruncate(file.fd, file.size))
    warn("%s ends in the middle of a frame, which its readers leave out", file.path);
  lseek(file.fd, file.size, SEEK_SET); /* of a file that was opened for us */
}

static _Noreturn void cannot_write(int error) {
  cut_back();
  char *hint = text("what was recorded up to here can be converted (%llu bytes)",
                    (unsigned long long)file.size);
  fail(EXIT_OUTPUT, hint, "cannot write %s: %s", file.path, strerror(error));
}

/* The beginning of a frame of `length` bytes, with the first `given` of them; bytes written. */
static size_t begin_frame(enum frame_kind kind, uint64_t ts, uint64_t length, const void *data,
                          size_t given) {
  magic[sizeof(magic) - 1] = CAPTURE_FORMAT;
  struct frame_header header = {kind, 0, ts, length};
  struct iovec part[] = {
      {(void *)magic, sizeof(magic)}, {&header, sizeof(header)}, {(void *)data, given}};
  int first = file.size ? 1 : 0; /* the magic stands before the first frame only */
  size_t total = 0;
  for (int i = first; i < 3; i++)
    total += part[i].iov_len;
  /* Not before there is something to put in the place of what was there. */
  bool done = (file.size || !ftruncate(file.fd, 0)) && write_all(part + first, 3 - first);
  if (!done)
    cannot_write(errno);
  return total;
}

void capture_frame(enum frame_kind kind, uint64_t ts, const void *data, size_t length) {
  file.size += begin_frame(kind, ts, length, data, length);
}

bool capture_copy(enum frame_kind kind, uint64_t ts, const void *data, size_t length, int source,
                  uint64_t copied) {
  static char piece[65536];
  uint64_t total = begin_frame(kind, ts, length + copied, data, length);
  for (uint64_t at = 0; at < copied;) {
    size_t wanted = copied - at < sizeof(piece) ? copied - at : sizeof(piece);
    ssize_t got = pread(source, piece, wanted, at);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      int error = got ? errno : ENODATA; /* it has become shorter */
      cut_back();
      errno = error;
      return false;
    }
    struct iovec part = {piece, got};
    if (!write_all(&part, 1))
      cannot_write(errno);
    at += got;
  }
  file.size += total + copied;
  return true;
}

void capture_text(enum frame_kind kind, uint64_t ts, const char *json) {
  capture_frame(kind, ts, json, strlen(json));
}

static uint64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

uint64_t boot_ns(void) { return clock_ns(CLOCK_BOOTTIME); }

void capture_clocks(void) {
  uint64_t clocks[3] = {0}, least = UINT64_MAX;
  /* Read as close together as can be: the best of five tries. */
  for (int i = 0; i < 5; i++) {
    uint64_t before = boot_ns();
    uint64_t monotonic = clock_ns(CLOCK_MONOTONIC), real = clock_ns(CLOCK_REALTIME);
    uint64_t after = boot_ns();
    if (after - before < least) {
      least = after - before;
      clocks[0] = before + least / 2;
      clocks[1] = monotonic;
      clocks[2] = real;
    }
  }
  capture_frame(FRAME_CLOCK, clocks[0], clocks, sizeof(clocks));
}

uint64_t capture_size(void) { return file.size; }

/* The trace is about 1.4 times as large, and what the embedded Trace Processor holds stands in
 * profinfer/trace_processor/trace_file.py. */
#define LARGE (400ull << 20)

const char *capture_outgrown(void) {
  static bool is_said;
  if (is_said || file.size < LARGE)
    return 0;
  is_said = true;
  return "the recording has grown to 400 MB: twice as much is too much for the embedded Trace"
         " Processor, and it takes minutes to open; --duration, --iterations, --level graph or"
         " --scheduler target record less";
}

void capture_close(void) {
  if (close(file.fd))
    fail(EXIT_OUTPUT, "", "cannot write %s: %s", file.path, strerror(errno));
  file.fd = -1;
}
