/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_marks.h"
#include "failure.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (1 << 18)
#define LONGEST 256
/* To read more takes longer than to ask. */
#define MOST (64ll << 20)
#define KNOWN 4096

static char **words;
static size_t word_count;

/* Files that have been read. One that was written to meanwhile has another time. */
static struct file {
  dev_t device;
  ino_t inode;
  off_t size;
  struct timespec changed;
  bool has_mark;
} known[KNOWN];
static size_t known_count; /* ever: the oldest make room */

void engine_marks_set(json_object *list) {
  size_t count = list ? json_object_array_length(list) : 0;
  for (size_t i = 0; i < word_count; i++)
    free(words[i]);
  free(words);
  words = count ? allocate(count, sizeof(*words)) : 0;
  for (size_t i = 0; i < count; i++) {
    const char *word = json_object_get_string(json_object_array_get_idx(list, i));
    if (!word || !*word || strlen(word) > LONGEST)
      fail(EXIT_USAGE, "", "a mark of an engine is no word");
    words[i] = text("%s", word);
  }
  word_count = count;
}

static bool has_word(const char *bytes, size_t length) {
  for (size_t i = 0; i < word_count; i++)
    if (memmem(bytes, length, words[i], strlen(words[i])))
      return true;
  return false;
}

/* A word may lie across two pieces: the end of one is kept before the next. */
static bool search(int file) {
  static char bytes[LONGEST + PIECE];
  size_t kept = 0;
  ssize_t got;
  off_t at = 0;
  while ((got = pread(file, bytes + kept, PIECE, at)) > 0) {
    size_t length = kept + got;
    if (has_word(bytes, length))
      return true;
    kept = length < LONGEST ? length : LONGEST;
    memmove(bytes, bytes + length - kept, kept);
    at += got;
    if (at > MOST)
      return true; /* it grows */
  }
  return got < 0;
}

static struct file identity(const struct stat *status) {
  return (struct file){.device = status->st_dev,
                       .inode = status->st_ino,
                       .size = status->st_size,
                       .changed = status->st_ctim};
}

static const struct file *find(const struct file *file) {
  for (size_t i = 0; i < known_count && i < KNOWN; i++)
    if (known[i].inode == file->inode && known[i].device == file->device &&
        known[i].size == file->size && known[i].changed.tv_sec == file->changed.tv_sec &&
        known[i].changed.tv_nsec == file->changed.tv_nsec)
      return &known[i];
  return 0;
}

static void remember(struct file file, bool has_mark) {
  file.has_mark = has_mark;
  known[known_count++ % KNOWN] = file;
}

void engine_marks_pass_over(const char *path) {
  struct stat status;
  if (!stat(path, &status))
    remember(identity(&status), false);
}

static bool read_it(const struct target *target, const struct mapping *mapping) {
  int file = target_open_mapped(target, mapping);
  bool found = file < 0 || search(file);
  if (file >= 0)
    close(file);
  return found;
}

bool engine_marks_has_none(const struct stat *status) {
  struct file wanted = identity(status);
  const struct file *found = word_count ? find(&wanted) : 0;
  return found && !found->has_mark;
}

/* Whatever cannot be looked at may be anything. */
static bool has_mark(const struct target *target, const struct mapping *mapping) {
  struct stat status;
  if (!target_stat_mapped(target, mapping, &status) || status.st_size > MOST)
    return true;
  struct file wanted = identity(&status);
  const struct file *found = find(&wanted);
  if (found)
    return found->has_mark;
  bool answer = read_it(target, mapping);
  remember(wanted, answer);
  return answer;
}

bool engine_marks_any(const struct target *target, const struct mapping *mappings, size_t count) {
  if (!word_count)
    return true;
  for (size_t i = 0; i < count; i++)
    if (has_mark(target, &mappings[i]))
      return true;
  return false;
}
