/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"
#include "failure.h"

#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PMUS "/sys/bus/event_source/devices"
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

const char *event_text(json_object *event, const char *name) {
  json_object *found = 0;
  bool is_there = json_object_object_get_ex(event, name, &found);
  return is_there && json_object_is_type(found, json_type_string) ? json_object_get_string(found)
                                                                  : "";
}

int64_t event_number(json_object *event, const char *name) {
  json_object *found = 0;
  return json_object_object_get_ex(event, name, &found) ? json_object_get_int64(found) : 0;
}

/* ---- The PMUs of this machine */

/* The first line of a file, "" where there is none; until the next call. */
static const char *read_line(const char *path) {
  static char line[4096];
  *line = 0;
  FILE *file = fopen(path, "re");
  if (!file)
    return line;
  if (!fgets(line, sizeof(line), file))
    *line = 0;
  fclose(file);
  line[strcspn(line, "\n")] = 0;
  return line;
}

static const char *of_pmu(const char *pmu, const char *file) {
  char path[512];
  snprintf(path, sizeof(path), PMUS "/%s/%s", pmu, file);
  return read_line(path);
}

/* Whether a number is in "0-3,8"; an empty list holds all. */
static bool holds(const char *list, unsigned number) {
  if (!*list)
    return true;
  for (const char *at = list; *at;) {
    char *end;
    unsigned first = strtoul(at, &end, 10), last = first;
    if (end == at)
      return false;
    if (*end == '-')
      last = strtoul(end + 1, &end, 10);
    if (number >= first && number <= last)
      return true;
    at = *end == ',' ? end + 1 : end;
  }
  return false;
}

/* The type of a PMU that counts on a CPU, -1 where it does not. */
static int type_on(const char *pmu, unsigned cpu) {
  const char *type = strspn(pmu, NAME_CHARACTERS) == strlen(pmu) ? of_pmu(pmu, "type") : "";
  int number = *type ? atoi(type) : -1;
  return holds(of_pmu(pmu, "cpus"), cpu) ? number : -1;
}

/* Calls `each` for every PMU until it answers other than -1; that answer. */
static int for_each_pmu(int (*each)(const char *pmu, void *context), void *context) {
  int found = -1;
  struct dirent *entry;
  DIR *folder = opendir(PMUS);
  while (folder && found < 0 && (entry = readdir(folder)))
    if (*entry->d_name != '.')
      found = each(entry->d_name, context);
  if (folder)
    closedir(folder);
  return found;
}

struct core {
  unsigned cpu;
  bool any; /* whether sysfs knows of any core's PMU */
};

static int type_of_core(const char *pmu, void *context) {
  struct core *core = context;
  if (strcmp(pmu, "cpu") && !*of_pmu(pmu, "cpus"))
    return -1;
  core->any = true;
  return type_on(pmu, core->cpu);
}

static int add_name(const char *pmu, void *context) {
  char **names = context;
  char *more = text("%s%s%s", *names, **names ? ", " : "", pmu);
  free(*names);
  *names = more;
  return -1;
}

const char *event_pmus(void) {
  static char *names;
  if (!names) {
    names = text("%s", "");
    for_each_pmu(add_name, &names);
  }
  return names;
}

/* ---- Sources */

static long tracepoint_id(const char *name) {
  static const char *const roots[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
  size_t system = strspn(name, NAME_CHARACTERS);
  const char *event = name + system + 1;
  if (name[system] != ':' || strspn(event, NAME_CHARACTERS) != strlen(event))
    return -1;
  for (size_t i = 0; i < 2; i++) {
    char path[512];
    snprintf(path, sizeof(path), "%s/events/%.*s/%s/id", roots[i], (int)system, name, event);
    const char *id = read_line(path);
    if (*id)
      return atol(id);
  }
  return -1;
}

/* Whether an event has this source on a CPU; if so, its words are in `attr`. */
static bool encode(json_object *source, unsigned cpu, struct perf_event_attr *attr) {
  static const struct {
    const char *name;
    unsigned type;
  } fixed[] = {{"hardware", PERF_TYPE_HARDWARE},
               {"software", PERF_TYPE_SOFTWARE},
               {"hw-cache", PERF_TYPE_HW_CACHE}};
  const char *pmu = event_text(source, "pmu");
  json_object *cpus = 0, *config = 0;
  bool is_here = !json_object_object_get_ex(source, "cpus", &cpus) ||
                 !json_object_is_type(cpus, json_type_array);
  for (size_t i = 0; !is_here && i < json_object_array_length(cpus); i++)
    is_here = (unsigned)json_object_get_int(json_object_array_get_idx(cpus, i)) == cpu;
  if (!is_here || !json_object_object_get_ex(source, "config", &config) ||
      !json_object_is_type(config, json_type_array))
    return false;
  attr->config = json_object_get_uint64(json_object_array_get_idx(config, 0));
  attr->config1 = json_object_get_uint64(json_object_array_get_idx(config, 1));
  attr->config2 = json_object_get_uint64(json_object_array_get_idx(config, 2));
  if (!strcmp(pmu, "tracepoint")) {
    attr->type = PERF_TYPE_TRACEPOINT;
    long id = tracepoint_id(event_text(source, "tracepoint"));
    attr->config = id;
    return id >= 0;
  }
  for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
    if (!strcmp(pmu, fixed[i].name)) {
      attr->type = fixed[i].type;
      return true;
    }
  int type;
  if (!strcmp(pmu, "core")) { /* the one inside the CPU, whichever that is */
    struct core core = {.cpu = cpu};
    type = for_each_pmu(type_of_core, &core);
    if (type < 0 && !core.any)
      type = PERF_TYPE_RAW; /* sysfs does not say: let the kernel choose */
  } else {
    type = type_on(pmu, cpu);
  }
  attr->type = type;
  return type >= 0;
}

static json_object *sources_of(json_object *event) {
  json_object *sources = 0;
  bool is_there = json_object_object_get_ex(event, "sources", &sources);
  return is_there && json_object_is_type(sources, json_type_array) ? sources : 0;
}

int event_open(json_object *event, unsigned cpu, int leader) {
  json_object *sources = sources_of(event);
  const char *exclude = event_text(event, "exclude");
  for (size_t i = 0; sources && i < json_object_array_length(sources); i++) {
    struct perf_event_attr attr = {
        .size = sizeof(attr),
        .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
        .exclude_user = strchr(exclude, 'u') != 0,
        .exclude_kernel = strchr(exclude, 'k') != 0,
        .exclude_hv = strchr(exclude, 'h') != 0,
    };
    if (encode(json_object_array_get_idx(sources, i), cpu, &attr))
      return syscall(SYS_perf_event_open, &attr, -1, cpu, leader, PERF_FLAG_FD_CLOEXEC);
  }
  errno = ENOENT;
  return -1;
}

bool event_unfilter(json_object *event) {
  json_object *by_default = 0;
  if (!json_object_object_get_ex(event, "by_default", &by_default) ||
      !json_object_get_boolean(by_default))
    return false;
  const char *name = event_text(event, "name"), *colon = strrchr(name, ':');
  int length = colon ? colon - name : (int)strlen(name);
  json_object_object_add(event, "name", json_object_new_string_len(name, length));
  json_object_object_add(event, "exclude", json_object_new_string(""));
  json_object_object_add(event, "by_default", json_object_new_boolean(false));
  return true;
}

bool event_is_software(json_object *event) {
  json_object *sources = sources_of(event);
  for (size_t i = 0; sources && i < json_object_array_length(sources); i++) {
    const char *pmu = event_text(json_object_array_get_idx(sources, i), "pmu");
    if (strcmp(pmu, "software") && strcmp(pmu, "tracepoint"))
      return false;
  }
  return true;
}
