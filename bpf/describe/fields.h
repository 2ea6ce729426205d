/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers by name: what was found in one struct. */
#ifndef PROFINFER_FIELDS_H
#define PROFINFER_FIELDS_H

#include <stddef.h>

/* A field that the library does not have, or that was not found. */
#define ABSENT (-1L)

struct fields {
  struct {
    const char *name;
    long value;
  } list[24];
  size_t count;
};

void fields_set(struct fields *fields, const char *name, long value);
long fields_get(const struct fields *fields, const char *name);

#endif
