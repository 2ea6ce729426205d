/* SPDX-License-Identifier: Apache-2.0 */
#include "named_models.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* It has the same number on every machine; headers may be too old for it. */
#define OPENAT2 437
#define MAX_PARTS 1000

struct taker {
  const struct target *target;
  named_file *take;
  void *context;
};

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

static void take_path(const struct taker *taker, const char *path) {
  char link[32];
  struct stat status;
  int found = find(taker->target, path), fd = -1;
  snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
  /* A pipe or a device would notice that it is opened. */
  if (found >= 0 && !fstat(found, &status) && S_ISREG(status.st_mode))
    fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) {
    char *shown = utf8(path, strlen(path));
    taker->take(taker->context, fd, shown);
    free(shown);
  }
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
static void take_word(const struct taker *taker, const char *word) {
  size_t stem = 0;
  unsigned parts = parts_of(word, &stem);
  if (!parts)
    take_path(taker, word);
  for (unsigned i = 1; i <= parts; i++) {
    char *path = text("%.*s-%05u-of-%05u.gguf", (int)stem, word, i, parts);
    take_path(taker, path);
    free(path);
  }
}

void named_models(const struct target *target, named_file *take, void *context) {
  const struct taker taker = {target, take, context};
  size_t length = 0;
  char *line = target_read(target, "cmdline", &length);
  for (const char *word = line; word && word < line + length; word += strlen(word) + 1) {
    const char *value = *word == '-' ? strchr(word, '=') : 0;
    take_word(&taker, word);
    if (value) /* --model=FILE */
      take_word(&taker, value + 1);
  }
  free(line);
}
