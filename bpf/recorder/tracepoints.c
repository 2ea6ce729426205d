/* SPDX-License-Identifier: Apache-2.0 */
#include "tracepoints.h"
#include "perf_event.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *tracefs(struct problem *why) {
  static const char *const places[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
  for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
    char events[64];
    struct stat status;
    snprintf(events, sizeof(events), "%s/events", places[i]);
    if (!stat(events, &status) && S_ISDIR(status.st_mode))
      return places[i];
    if (errno == EACCES || errno == EPERM) {
      problem_is(why, EXIT_PRIVILEGE, "run profinfer as root",
                 text("not allowed to read %s", places[i]));
      return 0;
    }
  }
  if (!mount("nodev", places[0], "tracefs", 0, 0))
    return places[0];
  problem_is(why, EXIT_KERNEL,
             "mount -t tracefs nodev /sys/kernel/tracing (the kernel needs CONFIG_TRACING)",
             text("tracefs is not mounted and cannot be: %s", strerror(errno)));
  return 0;
}

/* A file of a tracepoint; 0 when it cannot be read, with the reason in `why`. */
static FILE *open_file(const char *event, const char *name, struct problem *why) {
  char path[PATH_MAX];
  const char *root = tracefs(why);
  if (!root)
    return 0;
  snprintf(path, sizeof(path), "%s/events/%s/%s", root, event, name);
  FILE *file = fopen(path, "re");
  if (!file)
    problem_is(why, EXIT_KERNEL, "", text("this kernel has no tracepoint %s", event));
  return file;
}

static int read_id(const char *event, struct problem *why) {
  int id = -1;
  FILE *file = open_file(event, "id", why);
  if (!file)
    return -1;
  if (fscanf(file, "%d", &id) != 1) {
    id = -1;
    problem_is(why, EXIT_KERNEL, "", text("this kernel has no tracepoint %s", event));
  }
  fclose(file);
  return id;
}

int tracepoint_id(const char *event) {
  struct problem why = {0};
  int id = read_id(event, &why);
  free(why.message);
  return id;
}

/* ---- Fields. A line of the file "format":
 *
 *     <tab>field:unsigned long i_ino;<tab>offset:16;<tab>size:8;<tab>signed:0;
 */

struct field {
  char name[128]; /* without the [size] of an array */
  unsigned offset, size;
};

static bool is_of_name(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool parse_field(const char *line, struct field *found) {
  const char *declared = strstr(line, "field:"), *end = declared ? strchr(declared, ';') : 0;
  if (!end || sscanf(end, "; offset:%u; size:%u;", &found->offset, &found->size) != 2)
    return false;
  if (end[-1] == ']')
    while (end > declared && *end != '[')
      end--;
  const char *start = end;
  while (start > declared && is_of_name(start[-1]))
    start--;
  snprintf(found->name, sizeof(found->name), "%.*s", (int)(end - start), start);
  return true;
}

static bool find_field(FILE *format, const char *name, size_t size, struct field *found) {
  char line[512];
  while (fgets(line, sizeof(line), format))
    if (parse_field(line, found) && !strcmp(found->name, name) && found->size == size)
      return true;
  return false;
}

int tracepoint_need_field(const char *event, const char *field, size_t size, struct problem *why) {
  struct field found;
  FILE *format = open_file(event, "format", why);
  if (!format)
    return -1;
  bool is_there = find_field(format, field, size, &found);
  fclose(format);
  if (is_there)
    return (int)found.offset;
  problem_is(why, EXIT_KERNEL, "",
             text("tracepoint %s has no field %s of %zu bytes on this kernel", event, field, size));
  return -1;
}

int tracepoint_field(const char *event, const char *field, size_t size) {
  struct problem why = {0};
  int offset = tracepoint_need_field(event, field, size, &why);
  free(why.message);
  return offset;
}

size_t tracepoint_size(const char *event) {
  struct problem why = {0};
  struct field found;
  char line[512];
  size_t size = 0;
  FILE *format = open_file(event, "format", &why);
  while (format && fgets(line, sizeof(line), format))
    if (parse_field(line, &found) && (size_t)found.offset + found.size > size)
      size = (size_t)found.offset + found.size;
  if (format)
    fclose(format);
  free(why.message);
  return size;
}

/* ---- Programs at them */

int tracepoint_attach(int program, const char *event) {
  char *what = text("tracepoint %s", event);
  int id = read_id(event, 0);
  /* One event suffices: a BPF program runs on every CPU whichever event it is set on. Some CPU may
   * be offline, but not the one that we are on. */
  int opened = perf_event_open(PERF_TYPE_TRACEPOINT, id, sched_getcpu(), what, 0);
  perf_event_run(opened, program, what);
  free(what);
  return opened;
}

int raw_tracepoint_attach(int program, const char *name) {
  int link = bpf_raw_tracepoint_open(name, program);
  if (link < 0)
    fail(EXIT_KERNEL, "", "cannot attach to tracepoint %s: %s", name, strerror(errno));
  return link;
}

int kprobe_attach(int program, const char *function) {
  char line[32] = "";
  FILE *file = fopen("/sys/bus/event_source/devices/kprobe/type", "re");
  struct perf_event_attr attr = {.size = sizeof(attr), .config1 = (uintptr_t)function};
  bool is_there = file && fgets(line, sizeof(line), file);
  if (file)
    fclose(file);
  attr.type = atoi(line);
  int event =
      is_there ? syscall(SYS_perf_event_open, &attr, -1, sched_getcpu(), -1, PERF_FLAG_FD_CLOEXEC)
               : -1;
  if (event >= 0 &&
      (ioctl(event, PERF_EVENT_IOC_SET_BPF, program) || ioctl(event, PERF_EVENT_IOC_ENABLE, 0))) {
    close(event);
    event = -1;
  }
  return event;
}
