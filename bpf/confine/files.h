/* SPDX-License-Identifier: Apache-2.0 */
/* Where the user finds what is to be run and loaded. */
#ifndef PROFINFER_CONFINE_FILES_H
#define PROFINFER_CONFINE_FILES_H

#include "arguments.h"

/* Paths in the root. */
struct files {
  const char *program;
  const char *model;
  const char *scratch; /* where the user may write a little; or NULL */
  const char *sysroot; /* or NULL */
};

/* How much of memory copies may take. */
size_t files_size(const struct arguments *arguments, int program, int model);

/* In the new root: copies the program and the model there from their descriptors, makes the sysroot
 * reachable, and places the engine. */
struct files files_place(struct arguments *arguments, int program, int model);

/* Where no root can be made: all that is needed must be within the user's reach. */
struct files files_leave(struct arguments *arguments);

#endif
