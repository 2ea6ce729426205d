/* SPDX-License-Identifier: Apache-2.0 */
#include "description.h"
#include "engine.h"
#include "experiments.h"
#include "ggml.h"
#include "peek.h"
#include "sieve.h"

#include <string.h>

#define MOST 29

static void lists_nodes(struct sieve *sieve, const char raw[GRAPH_SIZE], void **nodes, int count) {
  for (size_t at = 0; at < GRAPH_SIZE; at += sieve->step) {
    uint64_t list;
    memcpy(&list, raw + at, sizeof(list));
    if (!peek_is(list, nodes, count * sizeof(*nodes)))
      sieve->is_out[at] = true;
  }
}

void describe_cgraph(void) {
  static const int counts[] = {13, MOST};
  static const char count_of[] = "ggml_graph_n_nodes";
  struct sieve n_nodes, lists;
  sieve_begin(&n_nodes, GRAPH_SIZE, 4);
  sieve_begin(&lists, GRAPH_SIZE, 8);
  for (int i = 0; i < 2; i++) {
    char raw[GRAPH_SIZE];
    void *nodes[MOST], *graph = ggml_chain(counts[i], nodes);
    peek_all((uint64_t)graph, raw, GRAPH_SIZE);
    if (engine_has(count_of) && FUNCTION(int, count_of, void *)(graph) != counts[i])
      unfit("ggml_graph_n_nodes does not count what was built");
    sieve_integer(&n_nodes, raw, counts[i]);
    lists_nodes(&lists, raw, nodes, counts[i]);
  }
  fields_set(&found->cgraph, "n_nodes", sieve_only(&n_nodes, "n_nodes"));
  fields_set(&found->cgraph, "nodes", sieve_only(&lists, "nodes"));
}
