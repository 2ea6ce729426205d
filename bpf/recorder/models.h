/* SPDX-License-Identifier: Apache-2.0 */
/* The GGUF files that a process has mapped or open, or that its command line names. */
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
  bool is_seen;   /* it was mapped or open, not only named */
  bool is_direct; /* it was open for direct I/O, which passes the page cache by */
};

struct models {
  struct model *list;
  size_t count, held; /* `held`: open */
  bool may_read;      /* files may be read: nothing is recorded */
};

/* Whether the region is of one of the models. */
bool models_have(const struct models *models, const struct region *region);

/* The model with these numbers, or 0. */
struct model *models_find(const struct models *models, uint32_t device, uint64_t inode);

/* Keeps one: its path, `problem` and file are ours from then on. */
void models_add(struct models *models, const struct target *target, struct model model);

/* Whether no more are kept. */
bool models_are_full(const struct models *models);

/* How a file begins. */
enum begins { LIKE_NONE, LIKE_A_MODEL, NOT_IN_MEMORY, CANNOT_BE_READ /* errno says why */ };

/* Unless it `may_read`, nothing is brought into memory for that: what we read is not seen to be
 * read by the target. */
enum begins models_begins(int fd, bool may_read);

/* The file that a link in the process's folder leads to, if it begins like a model, or is not in
 * memory and may; else -1, and `begins` says why. */
int models_open(const struct target *target, const char *link, bool may_read, enum begins *begins);

/* Opens the file that is mapped there and keeps it if it begins like a model, or may: the target
 * may be gone when it is read. A file is looked into once while `files` is the same. */
void models_examine(struct models *models, const struct target *target, const struct region *region,
                    struct set *files);

/* Writes a MODEL frame of each into the capture: what it is, and its header. Of those that were not
 * in memory it is seen now whether they are models. */
void models_write(const struct models *models);

/* Lets go of them. */
void models_close(struct models *models);

#endif
