/* SPDX-License-Identifier: Apache-2.0 */
/* Types as the kernel describes them, in BTF (linux/btf.h): what stands where in its structs. Pure:
 * bytes in, numbers out, and no byte of them is believed. */
#ifndef PROFINFER_BTF_H
#define PROFINFER_BTF_H

#include <stddef.h>
#include <stdint.h>

/* A BTF file. Its types are numbered from 1 on; 0 is void. */
struct btf_types {
  const unsigned char *data;
  size_t size;
  uint32_t *places; /* of each type in the file */
  uint32_t count;
  uint32_t strings, strings_size;
};

/* 0, or why this is no such file. What is found refers to the bytes. */
const char *btf_open(struct btf_types *types, const void *data, size_t size);
void btf_close(struct btf_types *types);

/* Where a struct's member stands, in bytes; or a member's member, where `inner` is one. -1 where
 * the struct is missing or has none. */
int btf_offset(const struct btf_types *types, const char *name, const char *member,
               const char *inner);

/* The number by which a program of ours calls a function of the kernel's; -1 where it is missing.
 */
int btf_function(const struct btf_types *types, const char *name);

/* How many arguments a tracepoint hands over; -1 where it is missing. */
int btf_tracepoint_arguments(const struct btf_types *types, const char *tracepoint);

#endif
