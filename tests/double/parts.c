// What a step does beside computing, as the known engine does it, and the truth about it: functions
// that do nothing but call each other, as those of ggml do.
#define _GNU_SOURCE
#include "known.h"
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef struct ggml_tensor tensor;
typedef struct ggml_backend backend;
typedef struct ggml_cgraph cgraph;

static struct part {
  const char *name;
  int64_t begin, end;
  int tid, depth;
  long bytes;
  const void *tensor, *from, *backend;
} * parts;
static long n_parts, room;
static int depth;

static int64_t boottime(void) {
  struct timespec t;
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static long begin(struct part p) {
  if (n_parts == room && !(parts = realloc(parts, (room = 2 * room + 64) * sizeof p)))
    abort();
  p.tid = gettid();
  p.depth = depth++;
  p.begin = boottime();
  parts[n_parts] = p;
  return n_parts++;
}
// `part` is begun before the call, whose entry and return lie between the two stamps.
static void end(long part) {
  parts[part].end = boottime();
  depth--;
}

void ggml_backend_sched_split_graph(void *sched, cgraph *graph);
bool ggml_backend_sched_alloc_graph(void *sched, cgraph *graph);
void ggml_backend_tensor_set(tensor *, const void *data, size_t offset, size_t size);
void ggml_backend_tensor_get(const tensor *, void *data, size_t offset, size_t size);
void ggml_backend_tensor_copy(tensor *from, tensor *to);
void ggml_backend_tensor_copy_async(backend *of, backend *by, tensor *from, tensor *to);
void ggml_backend_synchronize(backend *);

// Each does something that no other does: the linker may not make one of them.
#define EFFECT(n) __asm__ volatile("" : : "i"(n) : "memory")
void ggml_backend_sched_split_graph(void *sched, cgraph *graph) {
  (void)sched, (void)graph;
  EFFECT(21);
}
void ggml_backend_tensor_set(tensor *t, const void *data, size_t offset, size_t size) {
  (void)t, (void)data, (void)offset, (void)size;
  EFFECT(22);
}
void ggml_backend_tensor_get(const tensor *t, void *data, size_t offset, size_t size) {
  (void)t, (void)data, (void)offset, (void)size;
  EFFECT(23);
}
void ggml_backend_synchronize(backend *b) {
  (void)b;
  EFFECT(24);
}
void known_wait(backend *b) {
  const long part = begin((struct part){.name = "wait", .backend = b});
  ggml_backend_synchronize(b);
  end(part);
}
void ggml_backend_tensor_copy(tensor *from, tensor *to) {
  (void)from, (void)to;
  EFFECT(25);
}
void ggml_backend_tensor_copy_async(backend *of, backend *by, tensor *from, tensor *to) {
  known_wait(of);
  known_wait(by);
  const long part = begin((struct part){.name = "copy", .tensor = to, .from = from});
  ggml_backend_tensor_copy(from, to);
  end(part);
}

void known_split(void *sched, cgraph *graph) {
  const long part = begin((struct part){.name = "split"});
  ggml_backend_sched_split_graph(sched, graph);
  end(part);
}
void known_allocate(void *sched, cgraph *graph) {
  const long part = begin((struct part){.name = "allocate"});
  ggml_backend_sched_alloc_graph(sched, graph);
  end(part);
}
void known_set(tensor *t, const void *data, size_t size) {
  const long part = begin((struct part){.name = "set", .tensor = t, .bytes = size});
  ggml_backend_tensor_set(t, data, 0, size);
  end(part);
}
void known_get(const tensor *t, void *data, size_t size) {
  const long part = begin((struct part){.name = "get", .tensor = t, .bytes = size});
  ggml_backend_tensor_get(t, data, 0, size);
  end(part);
}
void known_copy(backend *of, backend *by, tensor *from, tensor *to) {
  const long part = begin((struct part){.name = "copy", .tensor = to, .from = from, .backend = by});
  ggml_backend_tensor_copy_async(of, by, from, to);
  end(part);
}
void known_parts(FILE *out) {
  fputs("\"parts\": [", out);
  for (long i = 0; i < n_parts; i++) {
    const struct part *p = &parts[i];
    fprintf(out, "%s[\"%s\", %d, %ld, %ld, %d, %ld, %ld, %ld, %ld]", i ? ", " : "", p->name, p->tid,
            (long)p->begin, (long)p->end, p->depth, p->bytes, (long)p->tensor, (long)p->from,
            (long)p->backend);
  }
  fputs("], ", out);
}
