/* SPDX-License-Identifier: Apache-2.0 */
#include "btf.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0xEB9F
/* What stands before everything else, and before each type. */
#define HEADER 24
#define HEAD 12
#define MEMBER 12
/* Structs without a name within others, of which the kernel has a few: damaged types could go round
 * in circles. */
#define DEEPEST 16
#define MOST_MEMBERS 100000

enum kind {
  INT = 1,
  ARRAY = 3,
  STRUCT,
  UNION,
  ENUM,
  TYPEDEF = 8,
  FUNC = 12,
  FUNC_PROTO,
  VAR,
  DATASEC,
  DECL_TAG = 17,
  ENUM64 = 19,
  KINDS
};

/* Bytes that follow a type's head: so many, and so many for each of its members. */
static const unsigned char fixed[KINDS] = {[INT] = 4, [ARRAY] = 12, [VAR] = 4, [DECL_TAG] = 4};
static const unsigned char each[KINDS] = {[STRUCT] = MEMBER, [UNION] = MEMBER, [ENUM] = 8,
                                          [FUNC_PROTO] = 8,  [DATASEC] = 12,   [ENUM64] = 12};

struct type {
  uint32_t name, reference; /* a string; another type, or a size */
  enum kind kind;
  uint32_t members;
  bool has_bit_fields;
};

static uint32_t word(const unsigned char *at) {
  uint32_t value;
  memcpy(&value, at, sizeof(value));
  return value;
}

/* There are HEAD bytes. */
static struct type type_at(const unsigned char *at) {
  uint32_t info = word(at + 4);
  return (struct type){word(at), word(at + 8), info >> 24 & 0x1f, info & 0xffff, info >> 31};
}

static size_t length(const struct type *type) {
  return HEAD + fixed[type->kind] + (size_t)each[type->kind] * type->members;
}

/* Whether the type of that number is one of a kind, and which. */
static bool find(const struct btf_types *types, uint32_t number, struct type *found) {
  if (!number || number > types->count)
    return false;
  *found = type_at(types->data + types->places[number]);
  return true;
}

static bool is_named(const struct btf_types *types, uint32_t at, const char *name) {
  size_t needed = strlen(name) + 1;
  return at < types->strings_size && types->strings_size - at >= needed &&
         !memcmp(types->data + types->strings + at, name, needed);
}

/* Notes where each type stands. */
static const char *number_types(struct btf_types *types, size_t at, size_t end) {
  while (at < end) {
    if (end - at < HEAD)
      return "it ends within a type";
    struct type type = type_at(types->data + at);
    if (!type.kind || type.kind >= KINDS)
      return "it has types of an unknown kind";
    if (end - at < length(&type))
      return "it ends within a type";
    types->places[++types->count] = at;
    at += length(&type);
  }
  return 0;
}

const char *btf_open(struct btf_types *types, const void *data, size_t size) {
  uint16_t magic;
  *types = (struct btf_types){.data = data, .size = size};
  if (size < HEADER || size > UINT32_MAX)
    return "it has no header";
  memcpy(&magic, data, sizeof(magic));
  if (magic != MAGIC)
    return "it is no BTF of this machine's byte order";
  uint64_t head = word(types->data + 4);
  uint64_t start = head + word(types->data + 8), end = start + word(types->data + 12);
  uint64_t strings = head + word(types->data + 16), last = strings + word(types->data + 20);
  if (end > size || last > size)
    return "it is shorter than it says";
  types->strings = strings;
  types->strings_size = last - strings;
  types->places = calloc((end - start) / HEAD + 2, sizeof(*types->places));
  if (!types->places)
    return "there is no memory for it";
  return number_types(types, start, end);
}

void btf_close(struct btf_types *types) {
  free(types->places);
  *types = (struct btf_types){0};
}

/* The number of a type by name; 0 for none. */
static uint32_t find_named(const struct btf_types *types, enum kind kind, const char *name) {
  struct type type;
  for (uint32_t number = 1; find(types, number, &type); number++)
    if (type.kind == kind && is_named(types, type.name, name))
      return number;
  return 0;
}

/* Where a member stands, in bits, and the number of its type. Those of nameless structs are its
 * own. `left`: members that may still be looked at. */
static bool find_member(const struct btf_types *types, uint32_t number, const char *name,
                        uint64_t *bits, uint32_t *type, int depth, int *left) {
  struct type outer;
  if (!find(types, number, &outer) || (outer.kind != STRUCT && outer.kind != UNION) ||
      depth > DEEPEST)
    return false;
  const unsigned char *member = types->data + types->places[number] + HEAD;
  for (uint32_t i = 0; i < outer.members && --*left > 0; i++, member += MEMBER) {
    uint32_t text = word(member), reference = word(member + 4), offset = word(member + 8);
    *bits = outer.has_bit_fields ? offset & 0xffffff : offset;
    *type = reference;
    if (text && is_named(types, text, name))
      return true;
    uint64_t within = *bits;
    if (!text && find_member(types, reference, name, bits, type, depth + 1, left)) {
      *bits += within;
      return true;
    }
  }
  return false;
}

int btf_offset(const struct btf_types *types, const char *name, const char *member,
               const char *inner) {
  uint64_t bits, more = 0;
  int left = MOST_MEMBERS;
  uint32_t number = find_named(types, STRUCT, name), type;
  if (!find_member(types, number, member, &bits, &type, 0, &left) ||
      (inner && !find_member(types, type, inner, &more, &type, 0, &left)))
    return -1;
  uint64_t bytes = bits / 8 + more / 8;
  return bytes <= INT32_MAX ? (int)bytes : -1;
}

int btf_function(const struct btf_types *types, const char *name) {
  uint32_t number = find_named(types, FUNC, name);
  return number && number <= INT32_MAX ? (int)number : -1;
}

int btf_tracepoint_arguments(const struct btf_types *types, const char *tracepoint) {
  char name[64];
  struct type type = {0};
  snprintf(name, sizeof(name), "btf_trace_%s", tracepoint);
  uint32_t number = find_named(types, TYPEDEF, name);
  for (int i = 0; i < 2 && find(types, number, &type); i++) /* to the pointer, to the function */
    number = type.reference;
  if (!find(types, number, &type) || type.kind != FUNC_PROTO || !type.members)
    return -1;
  return (int)type.members - 1; /* the first is the tracepoint's own */
}
