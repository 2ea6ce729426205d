/* SPDX-License-Identifier: Apache-2.0 */
#include "regions.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool listing_open(struct listing *listing, const struct target *target) {
  listing->fd = openat(target->folder, "maps", O_RDONLY | O_CLOEXEC);
  listing->from = listing->until = 0;
  return listing->fd >= 0;
}

/* More of it into the buffer; false at its end, and for a line that is longer than the buffer,
 * which the kernel does not make. */
static bool fill(struct listing *listing) {
  ssize_t got;
  memmove(listing->buffer, listing->buffer + listing->from, listing->until - listing->from);
  listing->until -= listing->from;
  listing->from = 0;
  size_t room = sizeof(listing->buffer) - listing->until;
  if (!room)
    return false;
  do
    got = read(listing->fd, listing->buffer + listing->until, room);
  while (got < 0 && errno == EINTR);
  listing->until += got > 0 ? got : 0;
  return got > 0;
}

char *listing_next(struct listing *listing, size_t *length) {
  for (;;) {
    char *line = listing->buffer + listing->from;
    char *end = memchr(line, '\n', listing->until - listing->from);
    if (end) {
      listing->from += end + 1 - line;
      *length = end - line;
      *end = 0;
      return line;
    }
    if (!fill(listing))
      return 0;
  }
}

void listing_close(struct listing *listing) {
  close(listing->fd);
  listing->fd = -1;
}

/* ---- Lines: "start-end mode offset major:minor inode   path" */

/* Its value; at least 16 when it is none. */
static unsigned digit_of(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* A number, and the one character behind it; false when there is none. */
static bool number(const char **at, const char *end, unsigned base, char behind, uint64_t *value) {
  const char *start = *at;
  *value = 0;
  for (; *at < end; ++*at) {
    unsigned digit = digit_of(**at);
    if (digit >= base)
      break;
    *value = *value * base + digit;
  }
  if (*at == start || (*at < end ? **at : ' ') != behind)
    return false;
  *at += *at < end;
  return true;
}

bool region_parse(const char *line, size_t length, struct region *region) {
  static const char deleted[] = " (deleted)";
  const size_t extra = sizeof(deleted) - 1, mode = 5;
  const char *at = line, *end = line + length;
  uint64_t major, minor;
  if (!number(&at, end, 16, '-', &region->start) || !number(&at, end, 16, ' ', &region->end) ||
      (size_t)(end - at) < mode)
    return false;
  at += mode;
  if (!number(&at, end, 16, ' ', &region->offset) || !number(&at, end, 16, ':', &major) ||
      !number(&at, end, 16, ' ', &minor) || !number(&at, end, 10, ' ', &region->inode))
    return false;
  while (at < end && *at == ' ')
    at++;
  if (!region->inode)
    at = end; /* "[heap]" and such are no files */
  if ((size_t)(end - at) > extra && !memcmp(end - extra, deleted, extra))
    end -= extra;
  region->device = major << 20 | minor;
  region->path = at;
  region->path_length = end - at;
  return true;
}

static uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
  return hash ^ hash >> 29;
}

uint64_t region_identity(const struct region *region) {
  uint64_t hash = mix(mix(mix(0, region->end), region->offset), region->inode);
  hash = mix(hash, (uint64_t)region->device << 32 | region->path_length);
  for (size_t at = 0; at < region->path_length; at += 8) {
    uint64_t word = 0;
    size_t left = region->path_length - at;
    memcpy(&word, region->path + at, left < 8 ? left : 8);
    hash = mix(hash, word);
  }
  return hash;
}
