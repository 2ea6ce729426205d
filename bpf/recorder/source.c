/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"
#include "failure.h"

#include <limits.h>
#include <string.h>

#define ADD(items, count, item, number)                                                            \
  do {                                                                                             \
    size_t at = 0;                                                                                 \
    while (at < (count) && strcmp((items)[at].name, item))                                         \
      at++;                                                                                        \
    if (at == SOURCE_ITEMS)                                                                        \
      fail(EXIT_KERNEL, "", "no room for %s among what is loaded", item);                          \
    (items)[at].name = item;                                                                       \
    (items)[at].value = number;                                                                    \
    (count) += at == (count);                                                                      \
  } while (0)

void source_program(struct source *source, const char *name, enum program_type type) {
  ADD(source->programs, source->program_count, name, type);
}

void source_map(struct source *source, const char *name) {
  ADD(source->maps, source->map_count, name, 0);
}

void source_parameter(struct source *source, const char *name, int32_t value) {
  ADD(source->parameters, source->parameter_count, name, value);
}

void source_size(struct source *source, const char *name, size_t entries) {
  if (entries > INT_MAX)
    fail(EXIT_KERNEL, "choose smaller rings", "map %s would have %zu entries", name, entries);
  ADD(source->sizes, source->size_count, name, (int)entries);
}
