/* SPDX-License-Identifier: Apache-2.0 */
/* A set of numbers other than 0: files that have been looked into, backends that have been seen. */
#ifndef PROFINFER_SET_H
#define PROFINFER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct set {
  uint64_t *slots;
  size_t size; /* a power of two, or 0 */
  size_t count;
};

/* Whether the number is new; it is in the set from then on. */
bool set_add(struct set *set, uint64_t number);

#endif
