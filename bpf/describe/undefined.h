/* SPDX-License-Identifier: Apache-2.0 */
/* The symbols that a library leaves to the program that loads it, as an interpreter's extension
 * module does: its own, which nothing it needs defines. */
#ifndef PROFINFER_UNDEFINED_H
#define PROFINFER_UNDEFINED_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>

struct undefined {
  const char *path;
  const unsigned char *file;
  size_t size;
  const Elf64_Phdr *segments;
  unsigned segment_count;
  const Elf64_Dyn *dynamic;
  size_t dynamic_count;
  const char **names;
  size_t name_count;
};

/* False when the file cannot be understood. */
bool undefined_open(struct undefined *undefined, const char *path);
void undefined_close(struct undefined *undefined);

/* The name of a library it needs, by number; 0 after the last. */
const char *undefined_needed(const struct undefined *undefined, unsigned number);

/* Where it says such a library may be, by number; false after the last. */
bool undefined_place(const struct undefined *undefined, unsigned number, const char *name,
                     char *path, size_t size);

/* Finds the names of those that nothing loaded so far defines; how many. */
size_t undefined_collect(struct undefined *undefined);

#endif
