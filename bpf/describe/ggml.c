/* SPDX-License-Identifier: Apache-2.0 */
#include "ggml.h"
#include "engine.h"
#include "unfit.h"

#include <stddef.h>

#define CONTEXT_MEMORY (16 << 20)

struct init_params {
  uint64_t memory_size;
  void *memory;
  bool has_no_memory;
};

static void *made(const char *function, void *object) {
  if (!object)
    unfit("%s made nothing", function);
  return object;
}

void *ggml_context(bool has_memory) {
  struct init_params params = {CONTEXT_MEMORY, 0, !has_memory};
  void *context = FUNCTION(void *, "ggml_init", struct init_params)(params);
  if (!context)
    unfit("ggml_init refused a context");
  return context;
}

void *ggml_tensor(void *context, int type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3) {
  const char *name = "ggml_new_tensor_4d";
  return made(name, FUNCTION(void *, name, void *, int, int64_t, int64_t, int64_t,
                             int64_t)(context, type, ne0, ne1, ne2, ne3));
}

void *ggml_pair(const char *operator, void * context, void *a, void *b) {
  return made(operator, FUNCTION(void *, operator, void *, void *, void *)(context, a, b));
}

void *ggml_view(void *context, void *tensor, int64_t count, uint64_t offset) {
  const char *name = "ggml_view_1d";
  return made(name, FUNCTION(void *, name, void *, void *, int64_t, uint64_t)(context, tensor,
                                                                              count, offset));
}

void *ggml_norm(const char *operator, void * context, void *tensor, float epsilon) {
  return made(operator,
              FUNCTION(void *, operator, void *, void *, float)(context, tensor, epsilon));
}

void *ggml_chain(unsigned count, void **nodes) {
  void *context = ggml_context(false);
  void *last = ggml_tensor(context, 0, 3, 1, 1, 1), *other = ggml_tensor(context, 0, 3, 1, 1, 1);
  for (unsigned i = 0; i < count; i++) {
    last = ggml_pair("ggml_add", context, last, other);
    if (nodes)
      nodes[i] = last;
  }
  void *graph = made("ggml_new_graph", FUNCTION(void *, "ggml_new_graph", void *)(context));
  FUNCTION(void, "ggml_build_forward_expand", void *, void *)(graph, last);
  return graph;
}
