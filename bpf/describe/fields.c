/* SPDX-License-Identifier: Apache-2.0 */
#include "fields.h"

#include <string.h>

void fields_set(struct fields *fields, const char *name, long value) {
  fields->list[fields->count].name = name;
  fields->list[fields->count++].value = value;
}

long fields_get(const struct fields *fields, const char *name) {
  for (size_t i = 0; i < fields->count; i++)
    if (!strcmp(fields->list[i].name, name))
      return fields->list[i].value;
  return ABSENT;
}
