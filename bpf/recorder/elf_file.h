/* SPDX-License-Identifier: Apache-2.0 */
/* What tells a file apart and where its code lies; the file may be damaged on purpose. */
#ifndef PROFINFER_ELF_FILE_H
#define PROFINFER_ELF_FILE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUILD_ID_TEXT 129 /* 64 bytes in hex, and a NUL */

struct elf_file {
  int fd;
  uint64_t size;
  Elf64_Phdr *segments;
  size_t segment_count;
};

/* Reads the program headers of a 64-bit little-endian ELF file; false when it is none. */
bool elf_file_read(struct elf_file *elf, int fd);

/* Closes the file and forgets the headers. */
void elf_file_close(struct elf_file *elf);

/* Exactly so many bytes of the file; false when it has not as many there. */
bool elf_file_read_at(const struct elf_file *elf, void *data, uint64_t length, uint64_t offset);

/* The GNU build id in hex, "" where there is none. */
void elf_file_build_id(const struct elf_file *elf, char id[BUILD_ID_TEXT]);

/* The virtual address at which an executable mapping of this file offset begins; false when no
 * executable segment holds it. */
bool elf_file_vaddr_of(const struct elf_file *elf, uint64_t offset, uint64_t *vaddr);

/* SHA-256 of the whole file in hex, and a NUL; false when it cannot be read. */
bool elf_file_sha256(const struct elf_file *elf, char hex[65]);

/* `length` bytes in hex, and a NUL. */
void to_hex(const unsigned char *bytes, size_t length, char *hex);

#endif
