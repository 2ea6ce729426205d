/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroup.h"
#include "target.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CONTAINER_DIGITS 64
#define POD_DIGITS 32
#define POD_UID 36 /* with four dashes, or underscores */

/* A part of a text. */
struct part {
  const char *at;
  size_t length;
};

static bool ends_with(struct part part, const char *end) {
  size_t length = strlen(end);
  return part.length > length && !memcmp(part.at + part.length - length, end, length);
}

static char *copy(struct part part) { return part.at ? utf8(part.at, part.length) : 0; }

/* The first folder of a path, or nothing; the path goes on behind it. */
static bool next_folder(struct part *path, struct part *folder) {
  while (path->length && *path->at == '/')
    path->at++, path->length--;
  const char *slash = memchr(path->at, '/', path->length);
  *folder = (struct part){path->at, slash ? (size_t)(slash - path->at) : path->length};
  path->at += folder->length;
  path->length -= folder->length;
  return folder->length;
}

/* ---- What one folder's name tells */

/* Docker, Podman, containerd and CRI-O name them ID, docker-ID.scope, libpod-ID, crio-ID.scope or
 * SLICE:cri-containerd:ID; what only watches a container, libpod-conmon-ID.scope. */
static struct part find_container(struct part folder) {
  size_t run = 0;
  for (size_t i = 0; i <= folder.length; i++) {
    bool is_digit = i < folder.length && (isdigit((unsigned char)folder.at[i]) ||
                                          (folder.at[i] >= 'a' && folder.at[i] <= 'f'));
    bool is_end = i == folder.length || folder.at[i] == '.';
    struct part before = {folder.at, i - run};
    bool is_begin = !before.length || ends_with(before, "-") || ends_with(before, ":");
    if (run == CONTAINER_DIGITS && is_begin && is_end)
      return ends_with(before, "conmon-") ? (struct part){0}
                                          : (struct part){folder.at + i - run, run};
    run = is_digit ? run + 1 : 0;
  }
  return (struct part){0};
}

/* podUID, or kubepods-burstable-podUID.slice with underscores. */
static struct part find_pod(struct part folder) {
  for (size_t i = 0; i + 3 < folder.length; i++) {
    if (memcmp(folder.at + i, "pod", 3) || (i && folder.at[i - 1] != '-'))
      continue;
    size_t length = 0, digits = 0;
    for (const char *at = folder.at + i + 3; at < folder.at + folder.length; at++, length++) {
      if (!isxdigit((unsigned char)*at) && *at != '-' && *at != '_')
        break;
      digits += *at != '-' && *at != '_';
    }
    if (digits == POD_DIGITS && (length == POD_DIGITS || length == POD_UID))
      return (struct part){folder.at + i + 3, length};
  }
  return (struct part){0};
}

/* systemd puts an underscore before a name that would be taken for one of the kernel's files. */
static struct part find_unit(struct part folder) {
  bool is_escaped = *folder.at == '_';
  if (!ends_with(folder, ".service") && !ends_with(folder, ".scope"))
    return (struct part){0};
  return (struct part){folder.at + is_escaped, folder.length - is_escaped};
}

/* ---- What a path tells, and which */

struct told {
  struct part path, container, pod, unit;
};

static struct told look(struct part path) {
  struct told told = {.path = path};
  struct part rest = path, folder, found;
  while (next_folder(&rest, &folder)) {
    if ((found = find_container(folder)).at)
      told.container = found;
    if ((found = find_pod(folder)).at)
      told.pod = found;
    if ((found = find_unit(folder)).at)
      told.unit = found;
  }
  return told;
}

/* A line is "number:controllers:path", and one of v2 is "0::path". Old container engines know only
 * the hierarchies of v1, systemd its own. */
static int rank(struct part controllers, const struct told *told) {
  bool is_systemd = ends_with(controllers, "=systemd");
  return (told->container.at ? 8 : 0) + (told->path.length > 1 ? 4 : 0) +
         (controllers.length ? 0 : 2) + is_systemd;
}

static bool parse_line(struct part line, struct part *controllers, struct part *path) {
  static const char deleted[] = " (deleted)";
  const char *first = memchr(line.at, ':', line.length), *end = line.at + line.length;
  const char *second = first ? memchr(first + 1, ':', end - first - 1) : 0;
  if (!second || second + 1 == end || second[1] != '/')
    return false;
  *controllers = (struct part){first + 1, second - first - 1};
  *path = (struct part){second + 1, end - second - 1};
  if (ends_with(*path, deleted))
    path->length -= sizeof(deleted) - 1;
  return true;
}

struct cgroup cgroup_parse(const char *text) {
  struct told best = {0};
  int highest = -1;
  while (*text) {
    struct part line = {text, strcspn(text, "\n")}, controllers, path;
    text += line.length + (text[line.length] == '\n');
    if (!parse_line(line, &controllers, &path))
      continue;
    struct told told = look(path);
    int ranked = rank(controllers, &told);
    if (ranked > highest)
      highest = ranked, best = told;
  }
  struct cgroup found = {copy(best.path), copy(best.container), copy(best.pod), copy(best.unit)};
  for (char *at = found.pod; at && *at; at++)
    *at = *at == '_' ? '-' : *at;
  return found;
}

void cgroup_free(struct cgroup *cgroup) {
  free(cgroup->path);
  free(cgroup->container);
  free(cgroup->pod);
  free(cgroup->unit);
  *cgroup = (struct cgroup){0};
}
