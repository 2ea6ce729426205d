/* SPDX-License-Identifier: Apache-2.0 */
#include "uprobes.h"
#include "failure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A handler at a place of a file. */
struct placed {
  uint64_t inode, offset;
  char device[16];
  const char *handler;
  size_t group;
};

static const char *const hot[] = {"on_operator", "on_fused", "on_barrier"};

static bool is_hot(const char *handler) {
  for (size_t i = 0; i < sizeof(hot) / sizeof(*hot); i++)
    if (!strcmp(handler, hot[i]))
      return true;
  return false;
}

struct uprobes uprobes_begin(const struct handlers *handlers, pid_t pid, bool empty_handlers) {
  struct uprobes uprobes = {.programs = handlers->programs,
                            .pid = pid,
                            .by_link = handlers->features.multi,
                            .nothing = -1};
  if (empty_handlers && (uprobes.nothing = uprobe_nothing(uprobes.by_link)) < 0)
    fail(EXIT_KERNEL, "", "cannot load a BPF program: %s", strerror(errno));
  return uprobes;
}

/* Room for `more` behind what is there. */
static void *grown(void *memory, size_t count, size_t more, size_t size) {
  memory = reallocarray(memory, count + more ? count + more : 1, size);
  if (!memory)
    fail(EXIT_KERNEL, "", "out of memory");
  return memory;
}

static int program_of(struct uprobes *uprobes, const char *handler) {
  for (size_t i = 0; i < uprobes->handler_count; i++)
    if (!strcmp(uprobes->handlers[i].handler, handler))
      return uprobes->handlers[i].program;
  bool is_empty = uprobes->nothing >= 0 && is_hot(handler);
  int program = is_empty ? uprobes->nothing : programs_find(uprobes->programs, handler);
  uprobes->handlers =
      grown(uprobes->handlers, uprobes->handler_count, 1, sizeof(struct handler_program));
  uprobes->handlers[uprobes->handler_count++] =
      (struct handler_program){text("%s", handler), program, is_empty};
  return program;
}

/* Notes a probe as placed; whether it was not. */
static bool place(struct uprobes *uprobes, const struct object *object,
                  const struct plan_probe *probe) {
  for (size_t i = 0; i < uprobes->count; i++) {
    const struct placed *placed = &uprobes->placed[i];
    if (placed->inode == object->inode && placed->offset == probe->offset &&
        !strcmp(placed->device, object->device) && !strcmp(placed->handler, probe->handler))
      return false;
  }
  uprobes->placed = grown(uprobes->placed, uprobes->count, 1, sizeof(struct placed));
  struct placed *placed = &uprobes->placed[uprobes->count++];
  *placed = (struct placed){object->inode, probe->offset, "", text("%s", probe->handler),
                            uprobes->group_count};
  memcpy(placed->device, object->device, sizeof(placed->device));
  return true;
}

/* What is attached together, and taken away together. */
struct group {
  const struct object *object;
  const char *handler;
  bool at_return;
  uint64_t *offsets;
  size_t count;
  char *symbols; /* for messages */
};

/* The probes of one handler in one object, from `first` on, that are not in place. */
static struct group gather(struct uprobes *uprobes, const struct plan *plan, size_t first,
                           const struct object *object, enum level level) {
  struct group group = {object,
                        plan->probes[first].handler,
                        plan->probes[first].at_return,
                        allocate(plan->probe_count, sizeof(uint64_t)),
                        0,
                        text("%s", "")};
  for (size_t i = first; i < plan->probe_count; i++) {
    const struct plan_probe *probe = &plan->probes[i];
    if (probe->level > level || probe->by_stub || probe->object != object->planned ||
        probe->at_return != group.at_return || strcmp(probe->handler, group.handler) ||
        !place(uprobes, object, probe))
      continue;
    char *symbols = text("%s%s%s (offset %#llx)", group.symbols, group.count ? ", " : "",
                         probe->symbol, (unsigned long long)probe->offset);
    free(group.symbols);
    group.symbols = symbols;
    group.offsets[group.count++] = probe->offset;
  }
  return group;
}

static _Noreturn void refused(const struct group *group, int error) {
  char *what = text("the %s probe of %s in %s", group->at_return ? "return" : "entry",
                    group->symbols, group->object->path);
  if (error == EACCES || error == EPERM)
    fail(EXIT_PRIVILEGE, "run it as root", "not allowed to attach %s: %s", what, strerror(error));
  fail(EXIT_PROBES,
       error == EINVAL ? "another tracer may hold a probe at the same place (see dmesg)" : "",
       "cannot attach %s: %s", what, strerror(error));
}

static bool attach(struct uprobes *uprobes, const struct group *group) {
  char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", group->object->fd);
  int program = program_of(uprobes, group->handler);
  uprobes->fds = grown(uprobes->fds, uprobes->fd_count, group->count, sizeof(int));
  uprobes->fd_groups = grown(uprobes->fd_groups, uprobes->fd_count, group->count, sizeof(size_t));
  int *fds = &uprobes->fds[uprobes->fd_count];
  size_t wanted = uprobes->by_link ? 1 : group->count, attached;
  if (uprobes->by_link) {
    *fds = uprobe_link(program, path, group->offsets, group->count, uprobes->pid, group->at_return);
    attached = *fds >= 0;
  } else {
    attached = uprobe_events(program, path, group->offsets, group->count, uprobes->pid,
                             group->at_return, fds);
  }
  for (size_t i = 0; i < attached; i++)
    uprobes->fd_groups[uprobes->fd_count++] = uprobes->group_count;
  uprobes->group_count++;
  return attached == wanted;
}

bool uprobes_attach(struct uprobes *uprobes, const struct objects *objects, enum level level) {
  const struct plan *plan = objects->plan;
  for (size_t i = 0; i < plan->probe_count; i++)
    for (size_t j = 0; j < objects->count; j++) {
      if (plan->probes[i].level > level || plan->probes[i].by_stub ||
          objects->found[j].planned != plan->probes[i].object)
        continue;
      struct group group = gather(uprobes, plan, i, &objects->found[j], level);
      bool is_attached = !group.count || attach(uprobes, &group);
      int error = errno;
      /* A process that is about to end is none any more for the kernel. */
      if (!is_attached && (error == ESRCH || target_has_ended(objects->target)))
        return false;
      if (!is_attached)
        refused(&group, error);
      free(group.offsets);
      free(group.symbols);
    }
  return true;
}

/* Whether a file is among the plan's, and no probe of it is this one. */
static bool is_given_up(const struct placed *placed, const struct objects *objects) {
  bool has_file = false;
  for (size_t i = 0; i < objects->count; i++) {
    const struct object *object = &objects->found[i];
    if (object->inode != placed->inode || strcmp(object->device, placed->device))
      continue;
    has_file = true;
    for (size_t j = 0; j < objects->plan->probe_count; j++) {
      const struct plan_probe *probe = &objects->plan->probes[j];
      if (probe->object == object->planned && probe->offset == placed->offset &&
          !strcmp(probe->handler, placed->handler))
        return false;
    }
  }
  return has_file;
}

static void drop_group(struct uprobes *uprobes, size_t group) {
  size_t kept = 0;
  for (size_t i = 0; i < uprobes->fd_count; i++) {
    if (uprobes->fd_groups[i] == group) {
      uprobe_close(&uprobes->fds[i], 1);
      continue;
    }
    uprobes->fds[kept] = uprobes->fds[i];
    uprobes->fd_groups[kept++] = uprobes->fd_groups[i];
  }
  uprobes->fd_count = kept;
  kept = 0;
  for (size_t i = 0; i < uprobes->count; i++)
    if (uprobes->placed[i].group != group)
      uprobes->placed[kept++] = uprobes->placed[i];
  uprobes->count = kept;
}

void uprobes_drop(struct uprobes *uprobes, const struct objects *objects) {
  for (size_t i = 0; i < uprobes->count;) {
    if (is_given_up(&uprobes->placed[i], objects)) {
      drop_group(uprobes, uprobes->placed[i].group);
      i = 0; /* others have moved up */
    } else {
      i++;
    }
  }
}

void uprobes_detach(struct uprobes *uprobes) {
  uprobe_close(uprobes->fds, uprobes->fd_count);
  uprobes->fd_count = uprobes->count = 0;
}
