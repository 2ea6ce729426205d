/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of an ELF file by name; the file may be damaged on purpose. */
#ifndef PROFINFER_ELF_SYMBOLS_H
#define PROFINFER_ELF_SYMBOLS_H

#include "elf_file.h"

/* Where in the file the first function begins that .dynsym or .symtab has under one of these names
 * (0 at the end); false when there is none in code that is loaded. */
bool elf_symbols_find(const struct elf_file *elf, const char *const *names, uint64_t *offset);

#endif
