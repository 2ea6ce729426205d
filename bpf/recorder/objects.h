/* SPDX-License-Identifier: Apache-2.0 */
/* The plan's objects, found among the files that the target has mapped. */
#ifndef PROFINFER_OBJECTS_H
#define PROFINFER_OBJECTS_H

#include "plan.h"
#include "target.h"

/* A mapped file that is one of the plan's objects: the very file, whatever its path leads to now.
 */
struct object {
  size_t planned; /* index in the plan */
  int fd;
  uint64_t inode;
  char device[16];
  char *path;      /* as the target sees it; display only */
  uint64_t *bases; /* load addresses of virtual address 0 */
  size_t base_count;
};

struct objects {
  const struct plan *plan;
  const struct target *target;
  struct object *found;
  size_t count;
};

/* Finds them by build id, or by size and SHA-256 where there is none. EXIT_PROBES, saying what was
 * looked for and what is there instead, when a level up to `level` keeps no required probe, when a
 * mapped file has the name of a planned one but is another, and when the code at a probe is not
 * what the plan says. */
struct objects objects_find(const struct plan *plan, const struct target *target, enum level level);

/* Lets go of their files. */
void objects_close(struct objects *objects);

/* The same, but whether there is what every level up to `level` needs: a process may not have
 * loaded it yet, or end just now. Where there is not, nothing is to be closed. Code is not looked
 * at. */
bool objects_try(const struct plan *plan, const struct target *target, enum level level,
                 struct objects *objects);

/* EXIT_PROBES when the code at a probe is not what the plan says. */
void objects_check(const struct objects *objects, enum level level);

/* The name of the backend whose get_name function has this address, or 0: by the plan's list, else
 * by the file that the address lies in. */
const char *objects_backend(const struct objects *objects, uint64_t function);

#endif
