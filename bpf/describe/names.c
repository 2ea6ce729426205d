/* SPDX-License-Identifier: Apache-2.0 */
#include "description.h"
#include "engine.h"
#include "experiments.h"
#include "peek.h"

#include <stdio.h>
#include <string.h>

/* So many values in a row without a type, and there are no more. */
#define GAP 16
#define MAX_TYPE_SIZE (1 << 16)

typedef uint64_t name_fn(int);

static const char *const tables[] = {"ggml_op_name", "ggml_unary_op_name", "ggml_glu_op_name",
                                     "ggml_op_symbol"};
#define TABLES (sizeof(tables) / sizeof(*tables))

static bool is_upper_name(const char *name) {
  size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
  return name[0] >= 'A' && name[0] <= 'Z' && length > 1 && length < 62 && !name[length];
}

static bool is_word(const char *name) {
  return !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")];
}

/* The library indexes its tables unchecked, so the one that follows in memory would go on. */
static bool is_other_table(uint64_t address, unsigned table) {
  for (unsigned i = 0; i < TABLES; i++)
    if (i != table && engine_has(tables[i]) && address == FUNCTION(uint64_t, tables[i], int)(0))
      return true;
  return false;
}

static void enumerate(unsigned table, struct enumeration *enumeration) {
  if (!engine_has(tables[table]))
    return;
  name_fn *name_of = engine_function(tables[table]);
  for (int value = 0; value < MAX_ENUM; value++) {
    char name[256];
    uint64_t address = name_of(value);
    if (!peek_text(address, name, sizeof(name)) || !is_upper_name(name) ||
        is_other_table(address, table) || enumeration_find(enumeration, name) != ABSENT)
      break;
    strcpy(enumeration->names[enumeration->count++], name);
  }
}

static bool read_type(int value, struct type *type) {
  uint64_t name = FUNCTION(uint64_t, "ggml_type_name", int)(value);
  type->size = FUNCTION(size_t, "ggml_type_size", int)(value);
  type->block = (uint32_t)FUNCTION(int64_t, "ggml_blck_size", int)(value);
  /* "NONE" is what ggml calls a number beyond its enum. */
  bool is_good = peek_text(name, type->name, NAME_SIZE) && is_word(type->name) &&
                 strcmp(type->name, "NONE") && type->size && type->size <= MAX_TYPE_SIZE &&
                 type->block && type->block <= MAX_TYPE_SIZE;
  if (!is_good)
    *type = (struct type){0};
  return is_good;
}

static void describe_types(void) {
  /* Of an empty row it only looks at the type: true for most, false for all beyond the enum. */
  const char *valid = "ggml_validate_row_data";
  bool has_valid = engine_has(valid);
  size_t last = 0;
  for (int value = 0, gap = 0; value < MAX_ENUM && gap < GAP; value++) {
    bool is_good = read_type(value, &found->types[value]);
    gap = is_good ? 0 : gap + 1;
    if (is_good && (!has_valid || FUNCTION(bool, valid, int, void *, size_t)(value, 0, 0)))
      last = value;
  }
  found->type_count = last + 1;
}

static void describe_version(void) {
  static const char *const sources[] = {"ggml_version", "ggml_commit"};
  size_t length = 0;
  for (unsigned i = 0; i < 2; i++) {
    char text[256];
    if (engine_has(sources[i]) &&
        peek_text(FUNCTION(uint64_t, sources[i], void)(), text, sizeof(text)) &&
        strcmp(text, "unknown"))
      length += snprintf(found->version + length, sizeof(found->version) - length, "%s%s",
                         length ? " " : "", text);
  }
}

void describe_names(void) {
  describe_version();
  enumerate(0, &found->operators);
  enumerate(1, &found->unary);
  enumerate(2, &found->glu);
  attempt_noted("types", describe_types);
}
