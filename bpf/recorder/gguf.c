/* SPDX-License-Identifier: Apache-2.0 */
#include "gguf.h"

#include <stdbool.h>

#define BUFFER 16384
#define MAGIC 0x46554747u /* GGUF_MAGIC as a number */

/* A place in the header; `problem` once it cannot go on. */
struct cursor {
  gguf_read *read;
  void *file;
  uint64_t at, size;    /* in the file, of the file */
  uint64_t buffered_at; /* what the buffer holds of it */
  size_t buffered;
  const char *problem;
  unsigned char buffer[BUFFER];
};

static void stop(struct cursor *cursor, const char *problem) {
  if (!cursor->problem)
    cursor->problem = problem;
}

/* Goes on by so many bytes; false when there are not so many. */
static bool skip(struct cursor *cursor, uint64_t length) {
  if (cursor->problem)
    return false;
  if (length > cursor->size - cursor->at)
    stop(cursor, "it ends in the middle of its header");
  else if (length > GGUF_HEADER_MAX - cursor->at)
    stop(cursor, "its header is longer than 64 MiB");
  else
    cursor->at += length;
  return !cursor->problem;
}

/* `count` times `size` bytes. */
static bool skip_all(struct cursor *cursor, uint64_t count, uint64_t size) {
  return skip(cursor, count > UINT64_MAX / size ? UINT64_MAX : count * size);
}

/* A little-endian number of `size` bytes; 0 when there is none. */
static uint64_t number(struct cursor *cursor, size_t size) {
  uint64_t at = cursor->at, value = 0;
  if (!skip(cursor, size))
    return 0;
  if (at < cursor->buffered_at || at + size > cursor->buffered_at + cursor->buffered) {
    ssize_t got = cursor->read(cursor->file, cursor->buffer, BUFFER, at);
    cursor->buffered_at = at;
    cursor->buffered = got > 0 ? got : 0;
    if (got < (ssize_t)size) {
      stop(cursor, got < 0 ? "its header cannot be read" : "it ends in the middle of its header");
      return 0;
    }
  }
  const unsigned char *bytes = cursor->buffer + (at - cursor->buffered_at);
  while (size--)
    value = value << 8 | bytes[size];
  return value;
}

static bool skip_string(struct cursor *cursor) { return skip(cursor, number(cursor, 8)); }

/* ---- Values of pairs, by type */

enum { TYPE_STRING = 8, TYPE_ARRAY = 9 };
static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
#define TYPES sizeof(sizes)

static bool skip_array(struct cursor *cursor) {
  uint64_t type = number(cursor, 4), count = number(cursor, 8);
  if (type == TYPE_ARRAY)
    stop(cursor, "its header has an array of arrays");
  else if (type >= TYPES)
    stop(cursor, "its header has a value of unknown type");
  else if (type != TYPE_STRING)
    return skip_all(cursor, count, sizes[type]);
  /* Each takes 8 bytes at least, so that the end of the file ends this, too. */
  while (count && !cursor->problem) {
    skip_string(cursor);
    count--;
  }
  return !cursor->problem;
}

static bool skip_pair(struct cursor *cursor) {
  if (!skip_string(cursor))
    return false;
  uint64_t type = number(cursor, 4);
  if (type == TYPE_STRING)
    return skip_string(cursor);
  if (type == TYPE_ARRAY)
    return skip_array(cursor);
  if (type >= TYPES)
    stop(cursor, "its header has a value of unknown type");
  return !cursor->problem && skip(cursor, sizes[type]);
}

/* Its name, its dimensions; type and offset. */
static bool skip_tensor(struct cursor *cursor) {
  return skip_string(cursor) && skip_all(cursor, number(cursor, 4), 8) && skip(cursor, 4 + 8);
}

uint64_t gguf_header_size(gguf_read *read, void *file, uint64_t size, const char **problem) {
  struct cursor cursor = {.read = read, .file = file, .size = size};
  uint32_t magic = number(&cursor, 4), version = number(&cursor, 4);
  if (magic != MAGIC)
    stop(&cursor, "it does not begin like a GGUF file");
  else if (version == 2u << 24 || version == 3u << 24)
    stop(&cursor, "its byte order is another machine's");
  else if (version != 2 && version != 3)
    stop(&cursor, "it is of an unknown version of GGUF");
  uint64_t tensors = number(&cursor, 8), pairs = number(&cursor, 8);
  while (pairs && skip_pair(&cursor))
    pairs--;
  while (tensors && skip_tensor(&cursor))
    tensors--;
  *problem = cursor.problem;
  return cursor.problem ? 0 : cursor.at;
}
