/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_uid.h"
#include "engine.h"
#include "ggml.h"
#include "peek.h"
#include "sieve.h"
#include "unfit.h"

#include <string.h>

#define ROUNDS 3
/* Numbers to be spread by: small ones occur everywhere. */
#define SPREAD 1000
#define SCHEDULER_SIZE 512

static char seen[ROUNDS][GRAPH_SIZE];
static unsigned seen_count;

/* In the place of the backend's own function: nothing is computed, and we see the graph as the
 * backend is given it. */
static int compute(void *backend, void *graph) {
  (void)backend;
  if (seen_count < ROUNDS && peek((uint64_t)graph, seen[seen_count], GRAPH_SIZE) != GRAPH_SIZE)
    return 0;
  seen_count++;
  return 0;
}

long graph_uid(void *backend, long graph_compute) {
  int (*replacement)(void *, void *) = compute;
  uint64_t low[ROUNDS], high[ROUNDS];
  struct sieve sieve;
  memcpy((char *)backend + graph_compute, &replacement, sizeof(replacement));
  void *scheduler = FUNCTION(void *, "ggml_backend_sched_new", void **, void *, int, size_t, bool,
                             bool)(&backend, 0, 1, SCHEDULER_SIZE, false, false);
  uint64_t (*next_uid)(void) = engine_function("ggml_graph_next_uid");
  if (!scheduler)
    unfit("ggml_backend_sched_new made nothing");
  seen_count = 0;
  for (unsigned i = 0; i < ROUNDS; i++) {
    void *graph = ggml_chain(3 + 2 * i, 0);
    low[i] = 0;
    for (unsigned k = 0; k < SPREAD; k++) {
      uint64_t uid = next_uid();
      if (uid > low[i])
        low[i] = uid;
    }
    FUNCTION(void, "ggml_backend_sched_reset", void *)(scheduler);
    FUNCTION(int, "ggml_backend_sched_graph_compute", void *, void *)(scheduler, graph);
    high[i] = next_uid();
  }
  if (seen_count != ROUNDS)
    unfit("the scheduler did not hand over one graph at a time");
  sieve_begin(&sieve, GRAPH_SIZE, sizeof(uint64_t));
  for (unsigned i = 0; i < ROUNDS; i++)
    for (size_t at = 0; at < GRAPH_SIZE; at += sizeof(uint64_t)) {
      uint64_t value;
      memcpy(&value, seen[i] + at, sizeof(value));
      if (value <= low[i] || value >= high[i])
        sieve.is_out[at] = true;
    }
  return sieve_only(&sieve, "cgraph.uid");
}
