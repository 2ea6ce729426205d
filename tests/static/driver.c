// A small engine of ggml alone, for linking statically: computes one graph over and over, as a
// model's program does, through a scheduler of backends, and says what it knows of that.
//
//   driver THREADS GRAPHS [GO]    with GO it prints its PID and waits until that file exists

#define _GNU_SOURCE
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WIDTH = 64, TOKENS = 8, LAYERS = 3 };

static struct ggml_tensor *new_weight(struct ggml_context *context, int columns, int rows) {
  struct ggml_tensor *weight = ggml_new_tensor_2d(context, GGML_TYPE_F32, columns, rows);
  ggml_set_input(weight);
  return weight;
}

static struct ggml_cgraph *new_graph(struct ggml_context *context) {
  struct ggml_tensor *current = new_weight(context, WIDTH, TOKENS);
  for (int layer = 0; layer < LAYERS; layer++) {
    struct ggml_tensor *normed = ggml_rms_norm(context, current, 1e-5F);
    normed = ggml_mul(context, normed, new_weight(context, WIDTH, 1));
    struct ggml_tensor *up = ggml_mul_mat(context, new_weight(context, WIDTH, 2 * WIDTH), normed);
    up = ggml_gelu(context, ggml_reshape_2d(context, up, 2 * WIDTH, TOKENS));
    struct ggml_tensor *down = ggml_mul_mat(context, new_weight(context, 2 * WIDTH, WIDTH), up);
    ggml_format_name(down, "down-%d", layer);
    current = ggml_add(context, current, ggml_soft_max(context, down));
  }
  struct ggml_cgraph *graph = ggml_new_graph(context);
  ggml_build_forward_expand(graph, current);
  return graph;
}

// A view of another tensor is not.
static bool is_computed(const struct ggml_tensor *node) {
  return node->op != GGML_OP_NONE && node->op != GGML_OP_RESHAPE && node->op != GGML_OP_VIEW &&
         node->op != GGML_OP_PERMUTE && node->op != GGML_OP_TRANSPOSE;
}

int main(int count, char **arguments) {
  if (count < 3)
    return 2;
  const int threads = atoi(arguments[1]), graphs = atoi(arguments[2]);
  if (count > 3) {
    printf("%d\n", getpid());
    fflush(stdout);
    while (access(arguments[3], F_OK) != 0)
      usleep(5000);
  }
  ggml_backend_t backend = ggml_backend_cpu_init();
  ggml_backend_cpu_set_n_threads(backend, threads);
  ggml_backend_sched_t scheduler =
      ggml_backend_sched_new(&backend, NULL, 1, GGML_DEFAULT_GRAPH_SIZE, false, false);
  const size_t memory = ggml_tensor_overhead() * GGML_DEFAULT_GRAPH_SIZE + ggml_graph_overhead();
  struct ggml_context *context = ggml_init((struct ggml_init_params){memory, NULL, true});
  struct ggml_cgraph *graph = new_graph(context);
  if (!ggml_backend_sched_alloc_graph(scheduler, graph))
    return 1;
  int nodes = ggml_graph_n_nodes(graph), computed = 0;
  for (int index = 0; index < nodes; index++)
    computed += is_computed(ggml_graph_node(graph, index));
  for (int done = 0; done < graphs; done++)
    if (ggml_backend_sched_graph_compute(scheduler, graph) != GGML_STATUS_SUCCESS)
      return 1;
  printf("{\"graphs\": %d, \"threads\": %d, \"nodes\": %d, \"computed\": %d}\n", graphs, threads,
         nodes, computed);
  ggml_backend_sched_free(scheduler);
  ggml_free(context);
  ggml_backend_free(backend);
  return 0;
}
