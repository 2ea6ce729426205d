/* SPDX-License-Identifier: Apache-2.0 */
/* The GGUF files that a process has mapped. */
#ifndef PROFINFER_MODELS_H
#define PROFINFER_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "regions.h"
#include "set.h"

struct model {
  uint32_t device;
  uint64_t inode;
  char *path;
  int fd;        /* held open; -1 when it could not be, for the reason in `problem` */
  char *problem; /* 0: none */
  /* Whether it lies on an overlay file system, as those of containers do: mappings then bear its
   * number, and reads that of the file below it. */
  bool is_overlaid;
};

struct models {
  struct model *list;
  size_t count, held; /* `held`: open */
};

/* Whether the region is of one of the models. */
bool models_have(const struct models *models, const struct region *region);

/* Opens the file that is mapped there and keeps it if it begins like a model: the target may be
 * gone when it is read. A file is looked into once while `files` is the same. */
void models_examine(struct models *models, const struct target *target, const struct region *region,
                    struct set *files);

/* Writes a MODEL frame of each into the capture: what it is, and its header. */
void models_write(const struct models *models);

/* Lets go of them. */
void models_close(struct models *models);

#endif
