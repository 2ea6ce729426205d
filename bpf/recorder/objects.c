/* SPDX-License-Identifier: Apache-2.0 */
#include "objects.h"
#include "elf_file.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* The plan's object that this file is, or object_count. */
static size_t planned_object(const struct plan *plan, const struct mapping *mapping,
                             const struct elf_file *elf) {
  char id[BUILD_ID_TEXT], sum[65] = "";
  elf_file_build_id(elf, id);
  for (size_t i = 0; i < plan->object_count; i++) {
    const struct plan_object *object = &plan->objects[i];
    if (*object->device) {
      if (object->inode == mapping->inode && !strcmp(object->device, mapping->device))
        return i;
    } else if (*object->build_id) {
      if (!strcmp(object->build_id, id))
        return i;
    } else if (!*id && object->size == elf->size) {
      if (*sum || elf_file_sha256(elf, sum))
        if (!strcmp(object->sha256, sum))
          return i;
    }
  }
  return plan->object_count;
}

/* What is wrong with a mapped file that only has the name of one of the plan's objects. */
static void note_namesake(const struct objects *objects, const struct mapping *mapping,
                          const struct elf_file *elf, char **namesakes) {
  const struct plan *plan = objects->plan;
  char id[BUILD_ID_TEXT];
  for (size_t i = 0; i < plan->object_count; i++) {
    const struct plan_object *object = &plan->objects[i];
    if (namesakes[i] || *object->device || strcmp(object->name, base_name(mapping->path)))
      continue;
    elf_file_build_id(elf, id);
    namesakes[i] =
        text("process %d has mapped %s (build id %s, %llu bytes), but %s was made for "
             "another file of that name (build id %s, %llu bytes)",
             objects->target->pid, mapping->path, *id ? id : "none", (unsigned long long)elf->size,
             plan->path, *object->build_id ? object->build_id : "none",
             (unsigned long long)object->size);
  }
}

static bool is_found(const struct objects *objects, size_t planned) {
  for (size_t i = 0; i < objects->count; i++)
    if (objects->found[i].planned == planned)
      return true;
  return false;
}

static struct object *known(struct objects *objects, const struct mapping *mapping) {
  for (size_t i = 0; i < objects->count; i++) {
    struct object *object = &objects->found[i];
    if (object->inode == mapping->inode && !strcmp(object->device, mapping->device))
      return object;
  }
  return 0;
}

static void add_base(struct object *object, uint64_t base) {
  for (size_t i = 0; i < object->base_count; i++)
    if (object->bases[i] == base)
      return;
  object->bases = reallocarray(object->bases, object->base_count + 1, sizeof(*object->bases));
  if (!object->bases)
    fail(EXIT_KERNEL, "", "out of memory");
  object->bases[object->base_count++] = base;
}

/* Another descriptor of the same file. */
static int again(int fd) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0)
    fail(EXIT_KERNEL, "raise the limit of open files (ulimit -n)", "cannot keep a file open: %s",
         strerror(errno));
  return copy;
}

static void examine(struct objects *objects, const struct mapping *mapping, char **namesakes) {
  struct elf_file elf = {.fd = -1};
  struct object *object = known(objects, mapping);
  int fd = object ? again(object->fd) : target_open_mapped(objects->target, mapping);
  if (fd < 0 && errno == EPERM)
    fail(EXIT_PRIVILEGE, "run it as root", "not allowed to open what process %d has mapped: %s",
         objects->target->pid, mapping->path);
  if (fd < 0)
    return; /* unmapped meanwhile */
  if (elf_file_read(&elf, fd)) {
    uint64_t vaddr;
    size_t planned = object ? object->planned : planned_object(objects->plan, mapping, &elf);
    if (planned == objects->plan->object_count) {
      note_namesake(objects, mapping, &elf, namesakes);
    } else if (elf_file_vaddr_of(&elf, mapping->offset, &vaddr)) {
      if (!object) {
        object = &objects->found[objects->count++];
        *object = (struct object){.planned = planned, .fd = again(fd), .inode = mapping->inode};
        object->path = text("%s", mapping->path);
        memcpy(object->device, mapping->device, sizeof(object->device));
      }
      add_base(object, mapping->start - vaddr);
    }
  }
  elf_file_close(&elf);
}

static void check_code(const struct objects *objects, const struct object *object,
                       const struct plan_probe *probe) {
  unsigned char code[CODE_MAX];
  ssize_t size = probe->code_size;
  if (pread(object->fd, code, size, probe->offset) != size || memcmp(code, probe->code, size))
    fail(EXIT_PROBES, "make the plan from the files that the process has mapped",
         "%s is not the file that %s was made from: its code at %s (offset %#llx) is different",
         object->path, objects->plan->path, probe->symbol, (unsigned long long)probe->offset);
}

/* Whether a level has a required probe in what was found, or asks for none; what it lacks. */
static bool has_level(const struct objects *objects, enum level level, const char **lacking) {
  const struct plan *plan = objects->plan;
  *lacking = 0;
  for (size_t i = 0; i < plan->probe_count; i++) {
    if (plan->probes[i].level != level || !plan->probes[i].required)
      continue;
    if (is_found(objects, plan->probes[i].object))
      return true;
    *lacking = plan->objects[plan->probes[i].object].name;
  }
  return !*lacking;
}

/* `namesakes`: by planned object, what is wrong with one that only has its name. */
static struct objects find_mapped(const struct plan *plan, const struct target *target,
                                  char **namesakes) {
  struct objects objects = {.plan = plan, .target = target};
  size_t count;
  struct mapping *mappings = target_try_mappings(target, &count);
  objects.found = allocate(count, sizeof(*objects.found));
  for (size_t i = 0; i < count; i++)
    examine(&objects, &mappings[i], namesakes);
  mappings_free(mappings, count);
  return objects;
}

static void free_all(char **texts, size_t count) {
  for (size_t i = 0; i < count; i++)
    free(texts[i]);
  free(texts);
}

void objects_close(struct objects *objects) {
  for (size_t i = 0; i < objects->count; i++) {
    close(objects->found[i].fd);
    free(objects->found[i].bases);
    free(objects->found[i].path);
  }
  free(objects->found);
  objects->found = 0;
  objects->count = 0;
}

void objects_check(const struct objects *objects, enum level level) {
  const struct plan *plan = objects->plan;
  for (size_t i = 0; i < plan->probe_count; i++)
    for (size_t j = 0; j < objects->count; j++)
      if (plan->probes[i].level <= level && objects->found[j].planned == plan->probes[i].object)
        check_code(objects, &objects->found[j], &plan->probes[i]);
}

bool objects_try(const struct plan *plan, const struct target *target, enum level level,
                 struct objects *objects) {
  char **namesakes = allocate(plan->object_count, sizeof(*namesakes));
  *objects = find_mapped(plan, target, namesakes);
  free_all(namesakes, plan->object_count);
  bool has_all = objects->count > 0;
  const char *lacking;
  for (enum level l = 0; l <= level; l++)
    has_all &= has_level(objects, l, &lacking);
  if (!has_all)
    objects_close(objects);
  return has_all;
}

struct objects objects_find(const struct plan *plan, const struct target *target,
                            enum level level) {
  char **namesakes = allocate(plan->object_count, sizeof(*namesakes));
  size_t mapped;
  struct mapping *mappings = target_mappings(target, &mapped);
  mappings_free(mappings, mapped); /* it has said why, where they cannot be read */
  struct objects objects = find_mapped(plan, target, namesakes);
  for (size_t i = 0; i < plan->object_count; i++)
    if (namesakes[i] && !is_found(&objects, i))
      fail(EXIT_PROBES, "make the plan from the files that the process has mapped", "%s",
           namesakes[i]);
  for (enum level l = 0; l <= level; l++) {
    const char *lacking;
    if (!has_level(&objects, l, &lacking))
      fail(EXIT_PROBES,
           objects.count ? "make the plan from all of the engine's files, and record once it has "
                           "loaded them"
                         : "is it the engine's process, and has it loaded the engine?",
           "process %d has not mapped %s, which %s needs for level %s", target->pid, lacking,
           plan->path, level_names[l]);
  }
  objects_check(&objects, level);
  free_all(namesakes, plan->object_count);
  return objects;
}

const char *objects_backend(const struct objects *objects, uint64_t function) {
  const struct plan *plan = objects->plan;
  for (size_t i = 0; i < objects->count; i++) {
    const struct object *object = &objects->found[i];
    for (size_t j = 0; j < plan->backend_count; j++)
      for (size_t k = 0; k < object->base_count; k++)
        if (plan->backends[j].object == object->planned &&
            object->bases[k] + plan->backends[j].vaddr == function)
          return plan->backends[j].name;
  }
  /* Not one of those: the nearest file below it. */
  const char *name = 0;
  uint64_t nearest = 0;
  for (size_t i = 0; i < objects->count; i++) {
    const struct object *object = &objects->found[i];
    for (size_t k = 0; k < object->base_count; k++)
      if (object->bases[k] <= function && object->bases[k] >= nearest) {
        nearest = object->bases[k];
        name = plan->objects[object->planned].backend;
      }
  }
  return name && *name ? name : 0;
}
