/* SPDX-License-Identifier: Apache-2.0 */
#include "loading.h"
#include "stand_in.h"
#include "undefined.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_NEIGHBOURS 256
#define MAX_DEPTH 4
#define MAX_TRIES 16
#define MODE (RTLD_LAZY | RTLD_GLOBAL)

static const char *neighbours[MAX_NEIGHBOURS];
static unsigned neighbour_count;

static void *open_at(const char *path, char reason[REASON_SIZE], unsigned depth);

void loading_add_neighbour(const char *path) {
  if (neighbour_count < MAX_NEIGHBOURS)
    neighbours[neighbour_count++] = path;
}

const char *loading_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* The loader's own words without the folder, which tells nothing. */
static void explain(const char *path, char reason[REASON_SIZE]) {
  const char *text = dlerror(), *folder_end = loading_name(path);
  size_t folder = folder_end - path, length = 0;
  if (!text)
    text = "for no reason";
  while (*text && length < REASON_SIZE - 1) {
    if (folder && !strncmp(text, path, folder))
      text += folder;
    else
      reason[length++] = *text++;
  }
  reason[length] = 0;
}

/* The library that was not found, from what glibc or musl says of it. */
static bool find_missing(const char *reason, char name[NAME_MAX + 1]) {
  static const char musl[] = "Error loading shared library ";
  const char *start = reason, *end = strchr(reason, ':');
  if (!strncmp(reason, musl, sizeof(musl) - 1))
    start += sizeof(musl) - 1;
  else if (!end || strncmp(end, ": cannot open shared object", 27))
    return false;
  end = strchr(start, ':');
  if (!end || end == start || end - start > NAME_MAX)
    return false;
  memcpy(name, start, end - start);
  name[end - start] = 0;
  return !strpbrk(name, "/ \t\n");
}

/* A neighbour that the loader does not look for where it is. */
static bool open_neighbour(const char *name, unsigned depth) {
  char path[PATH_MAX], reason[REASON_SIZE];
  for (unsigned i = 0; i < neighbour_count; i++) {
    int folder = loading_name(neighbours[i]) - neighbours[i];
    int length = snprintf(path, sizeof(path), "%.*s%s", folder, neighbours[i], name);
    if (length < (int)sizeof(path) && !access(path, F_OK))
      return open_at(path, reason, depth + 1);
  }
  return false;
}

static void *open_at(const char *path, char reason[REASON_SIZE], unsigned depth) {
  char missing[NAME_MAX + 1];
  void *handle = 0;
  for (unsigned i = 0; !handle && i < MAX_TRIES; i++) {
    handle = dlopen(path, MODE);
    if (handle)
      break;
    explain(path, reason);
    if (depth == MAX_DEPTH || !find_missing(reason, missing) || !open_neighbour(missing, depth))
      break;
  }
  return handle;
}

void *loading_open(const char *path, char reason[REASON_SIZE]) { return open_at(path, reason, 0); }

static void open_needed(const struct undefined *undefined) {
  const char *name;
  for (unsigned i = 0; (name = undefined_needed(undefined, i)); i++) {
    char path[PATH_MAX];
    void *handle = dlopen(name, MODE);
    for (unsigned k = 0; !handle && undefined_place(undefined, k, name, path, PATH_MAX); k++)
      handle = dlopen(path, MODE);
    if (!handle)
      open_neighbour(name, 0);
  }
}

bool loading_stand_in(const char *path, const char *scratch, const char *reason) {
  static unsigned number;
  char made[PATH_MAX], ignored[REASON_SIZE];
  struct undefined undefined;
  bool is_there = false;
  /* As glibc, and as musl says it. */
  if (!strstr(reason, "undefined symbol") && !strstr(reason, "symbol not found"))
    return false;
  if (!undefined_open(&undefined, path))
    return false;
  open_needed(&undefined);
  if (undefined_collect(&undefined)) {
    snprintf(made, sizeof(made), "%s/profinfer-symbols-%u.so", scratch, number++);
    is_there = stand_in_write(made, undefined.names, undefined.name_count) &&
               open_at(made, ignored, MAX_DEPTH);
  }
  undefined_close(&undefined);
  return is_there;
}
