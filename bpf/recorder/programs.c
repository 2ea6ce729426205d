/* SPDX-License-Identifier: Apache-2.0 */
#include "programs.h"
#include "embedded.h"
#include "failure.h"
#include "kernel_functions.h"
#include "message.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct descriptor {
  char *name;
  int fd;
};

struct programs {
  struct descriptor programs[SOURCE_ITEMS], maps[SOURCE_ITEMS];
  size_t program_count, map_count;
};

static int bcc = -1;             /* a socket, where BCC is to load */
static const char *other_object; /* a file in the place of the embedded object */

void programs_use(int bcc_socket) { bcc = bcc_socket; }

bool programs_by_libbpf(void) { return bcc < 0; }

void programs_use_object(const char *path) { other_object = path; }

static void keep(struct descriptor *items, size_t *count, const char *name, int fd) {
  if (*count < SOURCE_ITEMS)
    items[(*count)++] = (struct descriptor){text("%s", name), fd};
}

/* ---- libbpf */

/* The end of what libbpf complained of, the verifier's log with it: said only when something
 * fails. */
static char complaints[2048];

static int keep_complaints(enum libbpf_print_level level, const char *format, va_list arguments) {
  char *said;
  if (level != LIBBPF_WARN || vasprintf(&said, format, arguments) < 0)
    return 0;
  size_t room = sizeof(complaints) - 1, kept = strlen(complaints), length = strlen(said);
  size_t from = length > room ? length - room : 0;
  size_t dropped = kept + length - from > room ? kept + length - from - room : 0;
  memmove(complaints, complaints + dropped, kept - dropped + 1);
  strcpy(complaints + kept - dropped, said + from);
  free(said);
  return 0;
}

/* Says why a source was not loaded: in *why, or for good. */
static struct programs *refuse(char **why, enum exit_code code, const char *hint, char *reason) {
  if (!why) {
    fputs(complaints, stderr);
    fail(code, hint, "%s", reason);
  }
  *why = reason;
  return 0;
}

/* `embedded` is what libbpf reads in until the object is closed. */
static struct bpf_object *open_object(const struct source *source, void **embedded) {
  LIBBPF_OPTS(bpf_object_open_opts, how, .object_name = source->name);
  const char *path = strcmp(source->name, "profinfer") ? 0 : other_object;
  struct bpf_object *object;
  *embedded = 0;
  if (path) {
    object = bpf_object__open_file(path, &how);
  } else {
    size_t size;
    *embedded = embedded_object(source->name, source->has_transport && source->by_perf, &size);
    object = bpf_object__open_mem(*embedded, size, &how);
  }
  if (!object) {
    fputs(complaints, stderr);
    fail(EXIT_KERNEL, "", "cannot read %s: %s", path ? path : "an embedded BPF object",
         strerror(errno));
  }
  return object;
}

static struct bpf_map *read_only_data(struct bpf_object *object) {
  struct bpf_map *map;
  bpf_object__for_each_map(map, object) {
    const char *name = bpf_map__name(map);
    size_t length = strlen(name);
    if (bpf_map__is_internal(map) && length >= 7 && !strcmp(name + length - 7, ".rodata"))
      return map;
  }
  fail(EXIT_KERNEL, "", "the BPF object has no parameters");
}

/* Sets all of the object's parameters, and no others. Where each stands its BTF says. */
static void set_parameters(struct bpf_object *object, const struct source *source) {
  size_t size, set = 0;
  char *data = (char *)bpf_map__initial_value(read_only_data(object), &size);
  const struct btf *btf = bpf_object__btf(object);
  int id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
  if (!data || id < 0)
    fail(EXIT_KERNEL, "", "the BPF object has no parameters");
  const struct btf_type *section = btf__type_by_id(btf, id);
  const struct btf_var_secinfo *variable = btf_var_secinfos(section);
  for (int i = 0; i < btf_vlen(section); i++) {
    const struct btf_type *type = btf__type_by_id(btf, variable[i].type);
    const char *name = btf__name_by_offset(btf, type->name_off);
    size_t at = 0;
    while (at < source->parameter_count && strcmp(source->parameters[at].name, name))
      at++;
    if (at == source->parameter_count || variable[i].offset + sizeof(int32_t) > size)
      fail(EXIT_KERNEL, "use an object of the same version", "nothing sets parameter %s", name);
    memcpy(data + variable[i].offset, &(int32_t){source->parameters[at].value}, sizeof(int32_t));
    set++;
  }
  if (set != source->parameter_count)
    fail(EXIT_KERNEL, "use an object of the same version",
         "the BPF object has %zu parameters, not %zu", set, source->parameter_count);
}

static void set_sizes(struct bpf_object *object, const struct source *source) {
  for (size_t i = 0; i < source->size_count; i++) {
    const char *name = source->sizes[i].name;
    struct bpf_map *map = bpf_object__find_map_by_name(object, name);
    if (!map || bpf_map__set_max_entries(map, source->sizes[i].value))
      fail(EXIT_KERNEL, "use an object of the same version", "the BPF object has no map %s", name);
  }
}

static void choose_programs(struct bpf_object *object, const struct source *source) {
  struct bpf_program *program;
  bpf_object__for_each_program(program, object) bpf_program__set_autoload(program, false);
  for (size_t i = 0; i < source->program_count; i++) {
    const char *name = source->programs[i].name;
    program = bpf_object__find_program_by_name(object, name);
    if (!program)
      fail(EXIT_PLAN, "use profinfer plan and profinfer-recorder of one version",
           "this recorder has no handler %s", name);
    bpf_program__set_autoload(program, true);
    kernel_functions_set(program, source);
    if (source->attach_type && source->programs[i].value == AT_UPROBE)
      bpf_program__set_expected_attach_type(program, source->attach_type);
  }
}

/* A descriptor of our own: closing the object closes its. */
static int own(int fd) {
  int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (ours < 0)
    fail(EXIT_KERNEL, "raise the limit of open files (ulimit -n)", "cannot keep a descriptor: %s",
         strerror(errno));
  return ours;
}

static struct programs *load_by_libbpf(const struct source *source, char **why) {
  libbpf_set_print(keep_complaints);
  *complaints = 0;
  void *embedded;
  struct bpf_object *object = open_object(source, &embedded);
  set_parameters(object, source);
  set_sizes(object, source);
  choose_programs(object, source);
  if (bpf_object__load(object)) {
    int error = errno;
    bpf_object__close(object);
    free(embedded);
    if (error == EPERM) /* EACCES is the verifier's */
      return refuse(why, EXIT_PRIVILEGE, "run it as root",
                    text("not allowed to load the BPF programs: %s", strerror(error)));
    if (error == EMFILE)
      return refuse(why, EXIT_KERNEL, "raise the limit of open files (ulimit -n)",
                    text("cannot load the BPF programs: %s", strerror(error)));
    return refuse(why, EXIT_KERNEL, "--transport perf needs less of a kernel than ring does",
                  text("this kernel does not load the BPF programs: %s", strerror(error)));
  }
  struct programs *programs = allocate(1, sizeof(*programs));
  for (size_t i = 0; i < source->program_count; i++) {
    const char *name = source->programs[i].name;
    int fd = bpf_program__fd(bpf_object__find_program_by_name(object, name));
    keep(programs->programs, &programs->program_count, name, own(fd));
  }
  for (size_t i = 0; i < source->map_count; i++) {
    const char *name = source->maps[i].name;
    int fd = bpf_object__find_map_fd_by_name(object, name);
    if (fd < 0)
      fail(EXIT_KERNEL, "use an object of the same version", "the BPF object has no map %s", name);
    keep(programs->maps, &programs->map_count, name, own(fd));
  }
  bpf_object__close(object);
  free(embedded);
  return programs;
}

/* ---- BCC, in a process of profinfer's */

static json_object *source_json(const struct source *source) {
  json_object *said = json_object_new_object(), *programs = json_object_new_object(),
              *maps = json_object_new_array(), *parameters = json_object_new_object(),
              *sizes = json_object_new_object();
  for (size_t i = 0; i < source->program_count; i++)
    message_set_number(programs, source->programs[i].name, source->programs[i].value);
  for (size_t i = 0; i < source->map_count; i++)
    json_object_array_add(maps, json_object_new_string(source->maps[i].name));
  for (size_t i = 0; i < source->parameter_count; i++)
    message_set_number(parameters, source->parameters[i].name, source->parameters[i].value);
  for (size_t i = 0; i < source->size_count; i++)
    message_set_number(sizes, source->sizes[i].name, source->sizes[i].value);
  message_set_text(said, "name", source->name);
  if (source->has_transport)
    message_set_number(said, "transport", source->by_perf);
  json_object_object_add(said, "programs", programs);
  json_object_object_add(said, "maps", maps);
  json_object_object_add(said, "parameters", parameters);
  json_object_object_add(said, "entries", sizes);
  return said;
}

/* Puts the descriptors that a list of names speaks of, from `first` on, where they belong. */
static size_t keep_all(json_object *names, size_t first, const int *fds, size_t count,
                       struct descriptor *items, size_t *kept) {
  size_t here = names ? json_object_array_length(names) : 0;
  for (size_t i = 0; i < here && first + i < count; i++)
    keep(items, kept, json_object_get_string(json_object_array_get_idx(names, i)), fds[first + i]);
  return first + here;
}

static struct programs *load_by_bcc(const struct source *source, char **why) {
  int fds[MESSAGE_FDS];
  size_t count;
  json_object *request = message_event("load");
  json_object_object_add(request, "source", source_json(source));
  message_send(bcc, request);
  json_object *answer = message_receive(bcc, fds, &count);
  if (!answer)
    fail(EXIT_KERNEL, "", "BCC's process did not answer");
  const char *reason = message_text(answer, "message");
  if (*reason)
    return refuse(why, EXIT_KERNEL, text("%s", message_text(answer, "hint")), text("%s", reason));
  struct programs *programs = allocate(1, sizeof(*programs));
  size_t next = keep_all(message_list(answer, "programs"), 0, fds, count, programs->programs,
                         &programs->program_count);
  keep_all(message_list(answer, "maps"), next, fds, count, programs->maps, &programs->map_count);
  json_object_put(answer);
  return programs;
}

struct programs *programs_load(const struct source *source, char **why) {
  return bcc < 0 ? load_by_libbpf(source, why) : load_by_bcc(source, why);
}

/* ---- What was loaded */

static int find(const struct descriptor *items, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++)
    if (!strcmp(items[i].name, name))
      return items[i].fd;
  fail(EXIT_KERNEL, "use parts of one version", "%s was not loaded", name);
}

int programs_find(const struct programs *programs, const char *name) {
  return find(programs->programs, programs->program_count, name);
}

int programs_map(const struct programs *programs, const char *name) {
  return find(programs->maps, programs->map_count, name);
}

struct program_stats programs_stats(int program) {
  /* Headers may be too old for the last of its members, the kernel too. */
  union {
    struct bpf_prog_info info;
    uint64_t word[32];
  } told = {0};
  __u32 size = sizeof(told);
  if (bpf_obj_get_info_by_fd(program, &told.info, &size))
    return (struct program_stats){0};
  return (struct program_stats){
      .runs = told.word[25], .run_ns = told.word[24], .misses = told.word[26]};
}

static void close_all(struct descriptor *items, size_t count) {
  for (size_t i = 0; i < count; i++) {
    close(items[i].fd);
    free(items[i].name);
  }
}

void programs_close(struct programs *programs) {
  close_all(programs->programs, programs->program_count);
  close_all(programs->maps, programs->map_count);
  free(programs);
}
