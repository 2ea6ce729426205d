/* SPDX-License-Identifier: Apache-2.0 */
/* What a user can reach. */
#ifndef PROFINFER_CONFINE_REACH_H
#define PROFINFER_CONFINE_REACH_H

#include "arguments.h"

#include <stdint.h>

/* What became of opening an object by its path. */
struct reach {
  int32_t error; /* 0: opened */
  int32_t is_it; /* the file that the descriptor holds */
};

/* Tries it for all objects, as the user and from this root, in a child process: by `placed`, or by
 * `path` where that is NULL. */
void reach_try(const struct arguments *arguments, struct reach *reaches);

/* Whether the bits of an open file allow the user to read it. */
bool reach_may_read(const struct arguments *arguments, int file);

#endif
