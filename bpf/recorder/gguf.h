/* SPDX-License-Identifier: Apache-2.0 */
/* Where the header of a GGUF file ends: its key-value pairs and its list of tensors (versions 2 and
 * 3, little-endian). The file may be hostile: nothing that it says is trusted. */
#ifndef PROFINFER_GGUF_H
#define PROFINFER_GGUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GGUF_MAGIC "GGUF"
#define GGUF_HEADER_MAX (64ull << 20)

/* Reads up to `length` bytes at an offset of a file; how many, fewer only at its end; -1 when it
 * cannot. */
typedef ssize_t gguf_read(void *file, void *to, size_t length, uint64_t offset);

/* Bytes of the header; 0, and what is wrong with the file in `problem`, when that cannot be told or
 * they are more than GGUF_HEADER_MAX. `size`: of the file. */
uint64_t gguf_header_size(gguf_read *read, void *file, uint64_t size, const char **problem);

#endif
