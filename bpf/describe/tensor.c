/* SPDX-License-Identifier: Apache-2.0 */
#include "description.h"
#include "engine.h"
#include "experiments.h"
#include "ggml.h"
#include "peek.h"
#include "sieve.h"

#include <string.h>

#define SIZE_MIN 64
#define COUNT(list) (sizeof(list) / sizeof(*(list)))

typedef struct fields fields;

static size_t size;
static int f32;
static long flags_at, buffer_at;

/* Leaves the offsets at which the tensor has these bytes. */
static void has_bytes(struct sieve *sieve, const void *tensor, const void *wanted, size_t length) {
  char raw[STRUCT_MAX];
  peek_all((uint64_t)tensor, raw, size);
  sieve_bytes(sieve, raw, wanted, length);
}

static void has_integer(struct sieve *sieve, const void *tensor, uint64_t wanted) {
  has_bytes(sieve, tensor, &wanted, sieve->step);
}

/* Where both of two tensors have their value, of `length` bytes. */
static long find_two(const char *what, void *tensors[2], const void *first, const void *second,
                     size_t length, size_t step) {
  struct sieve sieve;
  sieve_begin(&sieve, size, step);
  has_bytes(&sieve, tensors[0], first, length);
  has_bytes(&sieve, tensors[1], second, length);
  return sieve_only(&sieve, what);
}

static void find_size(void *holders[2], uint64_t datas[2]) {
  /* Data follows its struct in a context that allocates: that tells the struct's size. */
  void *filled = ggml_context(true);
  uint64_t (*get_data)(void *) = engine_function("ggml_get_data");
  for (int i = 0; i < 2; i++)
    holders[i] = ggml_tensor(filled, f32, i ? 5 : 3, 1, 1, 1);
  for (int i = 0; i < 2; i++)
    datas[i] = get_data(holders[i]);
  size = datas[0] - (uint64_t)holders[0];
  if (size < SIZE_MIN || size > STRUCT_MAX || datas[1] - (uint64_t)holders[1] != size)
    unfit("the size of ggml_tensor cannot be told");
}

static long find_type(void *context) {
  struct sieve sieve;
  sieve_begin(&sieve, size, 4);
  for (size_t i = 0; i < found->type_count; i++)
    if (*found->types[i].name)
      has_integer(&sieve, ggml_tensor(context, i, found->types[i].block, 1, 1, 1), i);
  return sieve_only(&sieve, "type");
}

static long find_operator(void *const tensors[], const char *const names[], size_t count) {
  struct sieve sieve;
  sieve_begin(&sieve, size, 4);
  for (size_t i = 0; i < count; i++)
    if (enumeration_find(&found->operators, names[i]) == ABSENT)
      unfit("ggml_op_name does not know the basic operators");
  for (size_t i = 0; i < count; i++)
    has_integer(&sieve, tensors[i], enumeration_find(&found->operators, names[i]));
  return sieve_only(&sieve, "op");
}

static void check_unary(void *context, void *tensor, long op_params) {
  long silu = enumeration_find(&found->unary, "SILU");
  if (silu == ABSENT || op_params == ABSENT)
    return;
  struct sieve sieve;
  sieve_begin(&sieve, size, 4);
  void *made = FUNCTION(void *, "ggml_silu", void *, void *)(context, tensor);
  if (!made)
    unfit("ggml_silu made nothing");
  has_integer(&sieve, made, silu);
  if (sieve.is_out[op_params])
    note("op_params: a unary operator's number is not at its start");
}

/* Where the name is, and from how it is cut short, how long it can be. */
static void find_name(void *tensor, fields *fields) {
  char name[2 * STRUCT_MAX + 1], raw[STRUCT_MAX];
  for (size_t i = 0; i < 2 * size; i++)
    name[i] = 'a' + i % 23;
  name[2 * size] = 0;
  FUNCTION(void *, "ggml_set_name", void *, const char *)(tensor, name);
  peek_all((uint64_t)tensor, raw, size);
  const char *start = memmem(raw, size, name, 8);
  const char *end = start ? memchr(start, 0, raw + size - start) : 0;
  if (!end)
    unfit("ggml_set_name left no name");
  fields_set(fields, "name", start - raw);
  fields_set(fields, "name_size", end - start + 1);
}

static void find_flags(void) {
  static const char *const setters[] = {"ggml_set_input", "ggml_set_output"};
  char before[STRUCT_MAX], after[STRUCT_MAX];
  struct sieve sieve;
  void *tensor = ggml_tensor(ggml_context(false), f32, 101, 103, 1, 1);
  sieve_begin(&sieve, size, 4);
  for (int i = 0; i < 2; i++) {
    peek_all((uint64_t)tensor, before, size);
    FUNCTION(void, setters[i], void *)(tensor);
    peek_all((uint64_t)tensor, after, size);
    for (size_t at = 0; at < size; at += 4)
      if (!memcmp(before + at, after + at, 4))
        sieve.is_out[at] = true;
  }
  flags_at = sieve_only(&sieve, "flags");
}

static void find_buffer(void) {
  void *context = ggml_context(false);
  void *tensors[] = {ggml_tensor(context, f32, 7, 1, 1, 1), ggml_tensor(context, f32, 9, 1, 1, 1)};
  void *kind = FUNCTION(void *, "ggml_backend_cpu_buffer_type", void)();
  void *made =
      FUNCTION(void *, "ggml_backend_alloc_ctx_tensors_from_buft", void *, void *)(context, kind);
  if (!made)
    unfit("no buffer could be allocated");
  buffer_at = find_two("buffer", tensors, &made, &made, sizeof(made), 8);
}

/* From a field to the next one, in units. */
static void find_length(fields *fields, const char *field, long unit, const char *result) {
  long start = fields_get(fields, field), end = size;
  if (start == ABSENT)
    return;
  for (size_t i = 0; i < fields->count; i++) {
    const char *name = fields->list[i].name;
    long value = fields->list[i].value;
    bool is_length = strstr(name, "size") || !strcmp(name, "max_src");
    if (!is_length && value > start && value < end)
      end = value;
  }
  fields_set(fields, result, (end - start) / unit);
}

void describe_tensor(void) {
  fields *fields = &found->tensor;
  void *context = ggml_context(false), *holders[2];
  uint64_t datas[2], steps[] = {4 * 7, 4 * 4 * 7};
  f32 = 0;
  for (size_t i = found->type_count; i-- > 0;)
    if (!strcmp(found->types[i].name, "f32"))
      f32 = i;
  find_size(holders, datas);

  void *a = ggml_tensor(context, f32, 101, 103, 1, 1),
       *b = ggml_tensor(context, f32, 101, 107, 3, 5);
  void *c = ggml_tensor(context, f32, 101, 107, 3, 5), *twice_b[] = {b, b};
  void *products[] = {ggml_pair("ggml_mul_mat", context, a, b),
                      ggml_pair("ggml_add", context, b, c)};
  void *view = ggml_view(context, b, 61, steps[0]);
  void *views[] = {view, ggml_view(context, view, 11, steps[1] - steps[0])};
  float epsilons[] = {1.25e-5f, 3.5e-4f};
  void *norms[] = {ggml_norm("ggml_rms_norm", context, b, epsilons[0]),
                   ggml_norm("ggml_norm", context, b, epsilons[1])};
  const int64_t ne[] = {101, 107, 3, 5}, nb[] = {4, 4 * 101, 4 * 101 * 107, 4 * 101 * 107 * 3};
  void *const made[] = {products[0], products[1], view, b, norms[0], norms[1]};
  static const char *const names[] = {"MUL_MAT", "ADD", "VIEW", "NONE", "RMS_NORM", "NORM"};
  void *sources[2][2] = {{a, b}, {b, c}};

  fields_set(fields, "size", size);
  fields_set(fields, "type", find_type(context));
  fields_set(fields, "ne", find_two("ne", twice_b, ne, ne, sizeof(ne), 8));
  fields_set(fields, "nb", find_two("nb", twice_b, nb, nb, sizeof(nb), 8));
  fields_set(fields, "op", find_operator(made, names, COUNT(names)));
  fields_set(fields, "src", find_two("src", products, sources[0], sources[1], 16, 8));
  fields_set(fields, "data", find_two("data", holders, &datas[0], &datas[1], 8, 8));
  fields_set(fields, "view_src", find_two("view_src", views, &b, &b, 8, 8));
  fields_set(fields, "view_offs", find_two("view_offs", views, &steps[0], &steps[1], 8, 8));
  long op_params = find_two("op_params", norms, &epsilons[0], &epsilons[1], 4, 4);
  fields_set(fields, "op_params", op_params);
  check_unary(context, b, op_params);
  find_name(c, fields);
  flags_at = buffer_at = ABSENT;
  attempt_noted("flags", find_flags);
  fields_set(fields, "flags", flags_at);
  attempt_noted("buffer", find_buffer);
  fields_set(fields, "buffer", buffer_at);
  find_length(fields, "src", 8, "max_src");
  find_length(fields, "op_params", 1, "op_params_size");
}
