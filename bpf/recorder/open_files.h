/* SPDX-License-Identifier: Apache-2.0 */
/* Models that a process has open, or that its command line names: what is read and not mapped. */
#ifndef PROFINFER_OPEN_FILES_H
#define PROFINFER_OPEN_FILES_H

#include "models.h"

/* A number that changes when files are opened or closed, on most occasions; 0 where the kernel does
 * not tell (before Linux 6.2). */
uint64_t open_files_count(const struct target *target);

/* Keeps the models among the files that the process has open now. */
void open_files_look(struct models *models, const struct target *target);

/* Keeps the models that its command line names: they may be closed again before they are seen. */
void open_files_look_at_names(struct models *models, const struct target *target);

/* What /proc/PID/fdinfo/N says of an open file. */
struct file_info {
  uint64_t inode; /* 0: not told (before Linux 5.14) */
  int mount;      /* -1: not told */
  unsigned flags;
};
struct file_info file_info_parse(const char *text);

#endif
