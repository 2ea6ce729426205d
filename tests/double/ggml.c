// A test double of ggml and llama.cpp: their symbols, semantics and call structure, no arithmetic,
// a schedule known exactly. Layouts and enum values differ from every real ggml on purpose: a
// profiler that gets them right has learnt them from this library. Every counter is incremented
// next to the call that it counts, so it owes nothing to the profiler. Built with gcc -fPIC, whose
// semantic interposition keeps each call of an exported function a real one, through the PLT.
#define _GNU_SOURCE
#include "known.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Indices of op_names; those up to TRANSPOSE compute nothing.
enum ggml_op {
  OP_NONE,
  OP_VIEW,
  OP_RESHAPE,
  OP_TRANSPOSE = 4,
  OP_NORM = 6,
  OP_RMS_NORM = 8,
  OP_MUL_MAT_ID = 10,
  OP_MUL_MAT = 11,
  OP_MUL,
  OP_ADD,
  OP_UNARY = 15,
  OP_COUNT = 17
};
static const char *const op_names[] = {"NONE",       "VIEW",    "RESHAPE",  "PERMUTE",  "TRANSPOSE",
                                       "SCALE",      "NORM",    "SOFT_MAX", "RMS_NORM", "GET_ROWS",
                                       "MUL_MAT_ID", "MUL_MAT", "MUL",      "ADD",      "CPY",
                                       "UNARY",      "GLU"};
_Static_assert(sizeof op_names / sizeof *op_names == OP_COUNT, "op_names");
enum ggml_unary_op { OP_GELU, OP_RELU, OP_TANH, OP_SILU, UNARY_COUNT };
static const char *const unary_names[] = {"GELU", "RELU", "TANH", "SILU"};
enum ggml_type { F32, I32, F16, Q8_0, Q4_K, TYPE_COUNT };
enum { MAX_SRC = 6, NAME_SIZE = 48, DEFAULT_GRAPH = 2048, EMBD = 256, FF = 512, VOCAB = 1024 };

typedef struct ggml_tensor tensor;
typedef struct ggml_context context;
typedef struct ggml_cgraph cgraph;
typedef struct ggml_threadpool threadpool;
typedef struct ggml_compute_params params;
typedef struct ggml_backend backend;
typedef struct llama_ubatch ubatch;
typedef struct sample sample;
typedef struct worker worker;

static const struct {
  const char *name;
  int64_t block;
  size_t size;
} types[] = {{"f32", 1, 4}, {"i32", 1, 4}, {"f16", 1, 2}, {"q8_0", 32, 34}, {"q4_K", 256, 144}};

struct ggml_tensor {
  void *data;
  char name[NAME_SIZE];
  size_t nb[4];
  tensor *src[MAX_SRC];
  int64_t ne[4];
  int32_t flags;
  enum ggml_type type;
  int32_t op_params[12];
  enum ggml_op op;
  size_t view_offs;
  tensor *view_src;
  void *buffer, *extra;
};
struct ggml_cgraph {
  tensor **leafs;
  uint64_t uid; // a new one at each (re)build
  int32_t n_leafs, size;
  tensor **nodes;
  int32_t order, n_nodes;
};
struct ggml_context {
  char *mem;
  size_t size, used;
  bool owned, no_alloc;
};
struct ggml_init_params {
  size_t mem_size;
  void *mem_buffer;
  bool no_alloc;
};

struct sample { // CLOCK_BOOTTIME around one node on one thread
  char name[NAME_SIZE];
  const char *op;
  int graph, node;
  int64_t start, inner_entry, inner_exit, end;
};
struct worker {
  threadpool *pool;
  pthread_t thread;
  int ith, n_samples;
  pid_t tid;
  long extra, fused, inside, outside, executed, views;
  sample *samples;
};
struct ggml_threadpool {
  atomic_uint kick, arrived, phase, running;
  int n_threads;
  cgraph *graph; // NULL: leave
  struct worker workers[];
};
struct ggml_compute_params {
  size_t wsize;
  void *wdata;
  threadpool *pool;
  int nth, ith;
};
struct ggml_cplan {
  threadpool *pool;
  int n_threads;
};
struct ggml_backend { // guid and get_name come first, as in every real ggml
  const uint8_t *guid;
  const char *(*get_name)(backend *);
  int (*graph_compute)(backend *, cgraph *);
  int n_threads;
  threadpool *pool;
};
struct llama_ubatch {
  int32_t *pos;
  uint32_t n_seqs, n_seq_tokens;
  int8_t *output;
  int32_t *token;
  float *embd;
  uint32_t equal_seqs, n_tokens;
  int32_t **seq_id, *n_seq_id;
  uint32_t n_seqs_unq;
  int32_t *seq_id_unq;
};
struct llama_model {
  int n_layers;
};
struct llama_context {
  const struct llama_model *model;
  struct llama_context_params params;
  backend *cpu, *fake;
  uint32_t n_kv, graph_tokens, graph_kv;
  size_t mem_size;
  void *mem; // reused by every build, so that nodes keep their addresses while shapes change
  cgraph *graph, *fake_graph;
};

static struct known_config config = KNOWN_DEFAULTS;
static int32_t *routes; // what the ids of all layers are views of: rows of config.experts
static struct graph_log {
  const char *backend;
  long ubatch, nodes, executed, views;
  int rebuilt, n_tokens, n_kv;
  int64_t start, end;
} * graph_logs;
static long n_graph_logs, n_ubatches, n_async, n_cpu_graphs, n_alloc_graph;

static void check(bool ok, const char *what) {
  if (!ok) {
    fprintf(stderr, "known: %s\n", what);
    abort();
  }
}
static int64_t boottime(void) {
  struct timespec t;
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ---- self-description, contexts, tensors

const char *ggml_version(void) { return "0.0.7-known"; }
const char *ggml_op_name(int op) { return op >= 0 && op < OP_COUNT ? op_names[op] : NULL; }
const char *ggml_unary_op_name(int op) {
  return op >= 0 && op < UNARY_COUNT ? unary_names[op] : NULL;
}
const char *ggml_op_desc(const tensor *t) {
  return t->op == OP_UNARY ? ggml_unary_op_name(t->op_params[0]) : ggml_op_name(t->op);
}
const char *ggml_type_name(int type) {
  return type >= 0 && type < TYPE_COUNT ? types[type].name : "NONE";
}
size_t ggml_type_size(int type) { return types[type].size; }
int64_t ggml_blck_size(int type) { return types[type].block; }
int64_t ggml_nelements(const tensor *t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }
size_t ggml_nbytes(const tensor *t) {
  size_t bytes = t->ne[0] / types[t->type].block * t->nb[0];
  for (int i = 1; i < 4; i++)
    bytes += (t->ne[i] - 1) * t->nb[i];
  return bytes;
}
size_t ggml_tensor_overhead(void) { return (sizeof(tensor) + 15) & ~15UL; }
static size_t graph_bytes(size_t size) { return sizeof(cgraph) + 16 + size * 16; }
size_t ggml_graph_overhead(void) { return graph_bytes(DEFAULT_GRAPH); }

context *ggml_init(struct ggml_init_params p) {
  context *c = malloc(sizeof *c);
  void *mem = p.mem_buffer ? p.mem_buffer : malloc(p.mem_size);
  check(c && mem, "out of memory");
  *c = (context){mem, p.mem_size, 0, !p.mem_buffer, p.no_alloc};
  return c;
}
void ggml_free(context *c) {
  if (c && c->owned)
    free(c->mem);
  free(c);
}
static void *take(context *c, size_t bytes) {
  bytes = (bytes + 15) & ~15UL;
  check(bytes <= c->size - c->used, "not enough space in the context's memory pool");
  void *p = memset(c->mem + c->used, 0, bytes);
  c->used += bytes;
  return p;
}
tensor *ggml_new_tensor_4d(context *c, int type, int64_t ne0, int64_t ne1, int64_t ne2,
                           int64_t ne3) {
  tensor *t = take(c, sizeof *t);
  const int64_t ne[] = {ne0, ne1, ne2, ne3};
  memcpy(t->ne, ne, sizeof ne);
  t->type = type;
  t->nb[0] = types[type].size;
  t->nb[1] = types[type].size * (ne0 / types[type].block);
  t->nb[2] = t->nb[1] * ne1;
  t->nb[3] = t->nb[2] * ne2;
  if (!c->no_alloc)
    t->data = take(c, ggml_nbytes(t));
  return t;
}
#define NEW(c, type, ne0, ne1, ne2, ne3) ggml_new_tensor_4d(c, type, ne0, ne1, ne2, ne3)
tensor *ggml_new_tensor_3d(context *c, int type, int64_t ne0, int64_t ne1, int64_t ne2) {
  return NEW(c, type, ne0, ne1, ne2, 1);
}
tensor *ggml_new_tensor_2d(context *c, int type, int64_t ne0, int64_t ne1) {
  return NEW(c, type, ne0, ne1, 1, 1);
}
tensor *ggml_new_tensor_1d(context *c, int type, int64_t ne0) { return NEW(c, type, ne0, 1, 1, 1); }
tensor *ggml_set_name(tensor *t, const char *name) {
  snprintf(t->name, NAME_SIZE, "%s", name);
  return t;
}
void *ggml_get_data(const tensor *t) { return t->data; }
const char *ggml_get_name(const tensor *t) { return t->name; }

// ---- operators

static tensor *op(tensor *t, enum ggml_op code, tensor *a, tensor *b) {
  t->op = code;
  t->src[0] = a;
  t->src[1] = b;
  return t;
}
static tensor *like(context *c, const tensor *a) {
  return NEW(c, a->type, a->ne[0], a->ne[1], a->ne[2], a->ne[3]);
}
tensor *ggml_mul_mat(context *c, tensor *a, tensor *b) {
  check(a->ne[0] == b->ne[0] && b->ne[2] % a->ne[2] == 0 && b->ne[3] % a->ne[3] == 0,
        "ggml_can_mul_mat");
  return op(NEW(c, F32, a->ne[1], b->ne[1], b->ne[2], b->ne[3]), OP_MUL_MAT, a, b);
}
tensor *ggml_add(context *c, tensor *a, tensor *b) { return op(like(c, a), OP_ADD, a, b); }
tensor *ggml_mul(context *c, tensor *a, tensor *b) { return op(like(c, a), OP_MUL, a, b); }
static tensor *normalized(context *c, tensor *a, enum ggml_op code, float eps) {
  tensor *t = op(like(c, a), code, a, NULL);
  memcpy(t->op_params, &eps, sizeof eps);
  return t;
}
tensor *ggml_norm(context *c, tensor *a, float eps) { return normalized(c, a, OP_NORM, eps); }
tensor *ggml_rms_norm(context *c, tensor *a, float eps) {
  return normalized(c, a, OP_RMS_NORM, eps);
}
tensor *ggml_silu(context *c, tensor *a) {
  tensor *t = op(like(c, a), OP_UNARY, a, NULL);
  t->op_params[0] = OP_SILU;
  return t;
}
static tensor *view(context *c, tensor *a, enum ggml_op code, int64_t ne0, int64_t ne1,
                    size_t offset, const char *suffix) {
  const bool no_alloc = c->no_alloc;
  c->no_alloc = true; // a view has its source's data
  tensor *t = op(NEW(c, a->type, ne0, ne1, 1, 1), code, a, NULL);
  c->no_alloc = no_alloc;
  t->view_src = a->view_src ? a->view_src : a;
  t->view_offs = a->view_offs + offset;
  t->data = a->data ? (char *)a->data + offset : NULL;
  snprintf(t->name, NAME_SIZE, "%.34s (%s)", a->name, suffix);
  return t;
}
tensor *ggml_reshape_2d(context *c, tensor *a, int64_t ne0, int64_t ne1) {
  check(ggml_nelements(a) == ne0 * ne1, "ggml_nelements(a) == ne0*ne1");
  return view(c, a, OP_RESHAPE, ne0, ne1, 0, "reshaped");
}
tensor *ggml_view_1d(context *c, tensor *a, int64_t ne0, size_t offset) {
  return view(c, a, OP_VIEW, ne0, 1, offset, "view");
}

// ---- graphs

cgraph *ggml_new_graph_custom(context *c, size_t size, bool grads) {
  (void)grads;
  cgraph *g = take(c, sizeof *g);
  g->nodes = take(c, size * 2 * sizeof *g->nodes);
  g->leafs = g->nodes + size;
  g->size = size;
  return g;
}
cgraph *ggml_new_graph(context *c) { return ggml_new_graph_custom(c, DEFAULT_GRAPH, false); }
static void visit(cgraph *g, tensor *t) {
  const bool leaf = t->op == OP_NONE;
  tensor **list = leaf ? g->leafs : g->nodes;
  int32_t *n = leaf ? &g->n_leafs : &g->n_nodes;
  for (int i = *n - 1; i >= 0; i--)
    if (list[i] == t)
      return;
  for (int i = 0; i < MAX_SRC; i++)
    if (t->src[i])
      visit(g, t->src[i]);
  if (!t->name[0])
    snprintf(t->name, NAME_SIZE, leaf ? "leaf_%d" : "node_%d", *n);
  check(*n < g->size, "the graph is full");
  list[(*n)++] = t;
}
void ggml_build_forward_expand(cgraph *g, tensor *t) { visit(g, t); }
int ggml_graph_n_nodes(cgraph *g) { return g->n_nodes; }
tensor *ggml_graph_node(cgraph *g, int i) { return g->nodes[i < 0 ? g->n_nodes + i : i]; }

// ---- execution

static void wake(atomic_uint *word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
static void wait_while(atomic_uint *word, unsigned value) {
  for (int spin = 0; spin < 2000; spin++)
    if (atomic_load(word) != value)
      return;
  while (atomic_load(word) == value)
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}
void ggml_barrier(threadpool *tp) {
  if (tp->n_threads == 1)
    return;
  const unsigned phase = atomic_load(&tp->phase);
  if (atomic_fetch_add(&tp->arrived, 1) + 1 == (unsigned)tp->n_threads) {
    atomic_store(&tp->arrived, 0);
    atomic_store(&tp->phase, phase + 1);
    wake(&tp->phase);
  } else {
    wait_while(&tp->phase, phase);
  }
}
// Thread k works (k + 1) times as long as thread 0, so the imbalance is known.
static void work(int64_t ns, int ith) {
  const int64_t until = boottime() + ns * (ith + 1);
  const struct timespec t = {until / 1000000000, until % 1000000000};
  if (config.sleep)
    clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL);
  while (boottime() < until)
    ;
}
// What counters can be checked by: thread k runs 2 * loop * (k + 1) instructions in the loop and
// takes touch * (k + 1) page faults, on fresh pages.
static void counted_work(int ith) {
  if (config.loop) {
    long left = (long)config.loop * (ith + 1);
#if defined(__aarch64__)
    __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(left)::"cc");
#else
    __asm__ volatile("1: sub $1, %0\n jnz 1b" : "+r"(left)::"cc");
#endif
  }
  if (config.touch) {
    const size_t page = sysconf(_SC_PAGESIZE), size = page * config.touch * (ith + 1);
    char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(fresh != MAP_FAILED, "no fresh pages");
    madvise(fresh, size, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < size; at += page)
      *(volatile char *)(fresh + at) = 1;
    munmap(fresh, size);
  }
}
// With --mixed, or --even N us, each operator's work is so much, however long it takes: turns
// through memory of the thread's own.
enum { MEMORY = 1 << 17, LINE = 64, MIXED_THREADS = 8 };
static volatile char memory[MIXED_THREADS][MEMORY];
static double turns_per_us;
__attribute__((noinline)) static void turn(long turns, int ith) {
  static __thread unsigned at;
  for (long i = 0; i < turns; i++, at += LINE)
    memory[ith][at % MEMORY]++;
}
void known_calibrate(void) {
  const long turns = 1 << 16;
  int64_t least = INT64_MAX;
  for (int i = 0; i < 20; i++) {
    const int64_t start = boottime();
    turn(turns, 0);
    const int64_t took = boottime() - start;
    least = took < least ? took : least;
  }
  turns_per_us = 1000.0 * turns / least;
}
static double mixed_us(const tensor *t) {
  static const struct {
    const char *name;
    double us;
  } known[] = {{"Qcur", 20},    {"kq-", 5},     {"kqv", 2},     {"attn_out", 5},
               {"ffn_gate", 5}, {"ffn_out", 2}, {"result", 100}};
  if (t->op == OP_MUL_MAT)
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
      if (!strncmp(t->name, known[i].name, strlen(known[i].name)))
        return known[i].us;
  return t->op == OP_UNARY ? 5 : t->op == OP_ADD ? 2 : 1;
}
static void work_on(const tensor *t, double share, int ith) {
  if (config.mixed || config.even)
    turn(turns_per_us * (config.even ? config.even : mixed_us(t)) * share, ith);
  else
    work(config.work_us * 1000LL * share, ith);
}
bool ggml_cpu_extra_compute_forward(params *p, tensor *t) {
  (void)p, (void)t;
  return false; // "no extra buffer type claims this node", as for ordinary weights
}
void ggml_compute_forward_rms_norm_mul_fused(params *p, tensor *norm, tensor *mul) {
  (void)norm;
  counted_work(p->ith);
  work_on(mul, 1, p->ith);
}
static void compute_forward(params *p, worker *w, tensor *t, sample *s) {
  w->extra++;
  if (ggml_cpu_extra_compute_forward(p, t))
    return;
  counted_work(p->ith);
  work_on(t, 0.5, p->ith);
  if (t->op == OP_MUL_MAT) {
    s->inner_entry = boottime();
    w->inside++;
    ggml_barrier(p->pool);
    s->inner_exit = boottime();
  }
  work_on(t, 0.5, p->ith);
}
static void keep(worker *w, const sample *s) {
  w->samples = realloc(w->samples, (w->n_samples + 1) * sizeof *s);
  check(w->samples, "out of memory");
  w->samples[w->n_samples++] = *s;
}
static void compute_thread(worker *w) {
  cgraph *g = w->pool->graph;
  params p = {0, NULL, w->pool, w->pool->n_threads, w->ith};
  for (int i = 0; i < g->n_nodes;) {
    tensor *t = g->nodes[i], *next = i + 1 < g->n_nodes ? g->nodes[i + 1] : NULL;
    if (t->op <= OP_TRANSPOSE) {
      w->views++;
      i++;
      continue;
    }
    const bool fuse = !config.no_fused && t->op == OP_RMS_NORM && next && next->op == OP_MUL &&
                      (next->src[0] == t || next->src[1] == t);
    sample s = {.op = fuse ? "RMS_NORM+MUL" : op_names[t->op], .graph = n_cpu_graphs - 1};
    s.node = i;
    memcpy(s.name, t->name, NAME_SIZE);
    s.start = boottime();
    if (fuse) {
      w->fused++;
      ggml_compute_forward_rms_norm_mul_fused(&p, t, next);
    } else {
      compute_forward(&p, w, t, &s);
    }
    s.end = boottime();
    w->executed += 1 + fuse;
    i += 1 + fuse;
    if (i < g->n_nodes) {
      w->outside++;
      ggml_barrier(w->pool);
    }
    if (s.graph < config.samples) // after the barrier: keeping takes no time of the wait
      keep(w, &s);
  }
  if (config.final_barrier) { // real ggml has this call, from an address of its own
    w->outside++;
    ggml_barrier(w->pool);
  }
}
static void *worker_main(void *arg) {
  worker *w = arg;
  threadpool *tp = w->pool;
  w->tid = gettid();
  for (unsigned seen = 0;; seen++) {
    wait_while(&tp->kick, seen);
    if (!tp->graph)
      return NULL;
    compute_thread(w);
    if (atomic_fetch_sub(&tp->running, 1) == 1)
      wake(&tp->running);
  }
}
// The next thread of this PID namespace gets this number, unless somebody else comes between.
static void number_next(pid_t tid) {
  FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "w");
  check(last && fprintf(last, "%d", tid - 1) > 0 && !fclose(last), "cannot choose a number");
}
static void *worker_once(void *arg) {
  worker *w = arg;
  w->tid = gettid();
  compute_thread(w);
  return NULL;
}
static void compute_without_pool(threadpool *tp) {
  for (int k = 1; k < tp->n_threads; k++) {
    worker *w = &tp->workers[k];
    if (config.recur && w->tid)
      number_next(w->tid);
    check(!pthread_create(&w->thread, NULL, worker_once, w), "thread");
  }
  compute_thread(&tp->workers[0]);
  for (int k = 1; k < tp->n_threads; k++)
    pthread_join(tp->workers[k].thread, NULL);
}
static threadpool *new_pool(int n) {
  threadpool *tp = calloc(1, sizeof *tp + n * sizeof tp->workers[0]);
  check(tp, "out of memory");
  check(!(config.mixed || config.even) || n <= MIXED_THREADS, "too many threads for --mixed");
  tp->n_threads = n;
  for (int k = 0; k < n; k++)
    tp->workers[k] = (struct worker){.pool = tp, .ith = k};
  tp->workers[0].tid = gettid();
  for (int k = 1; k < n && !config.no_pool; k++)
    check(!pthread_create(&tp->workers[k].thread, NULL, worker_main, &tp->workers[k]), "thread");
  return tp;
}
static void kick(threadpool *tp, cgraph *graph) {
  tp->graph = graph;
  atomic_store(&tp->running, tp->n_threads - 1);
  atomic_fetch_add(&tp->kick, 1);
  wake(&tp->kick);
}
int ggml_graph_compute(cgraph *graph, struct ggml_cplan *plan) {
  if (config.no_pool) {
    plan->pool->graph = graph;
    compute_without_pool(plan->pool);
    return 0;
  }
  kick(plan->pool, graph);
  compute_thread(&plan->pool->workers[0]);
  for (unsigned left; (left = atomic_load(&plan->pool->running));)
    wait_while(&plan->pool->running, left);
  return 0;
}

// ---- backends

static const uint8_t cpu_guid[16] = "known CPU guid", fake_guid[16] = "known Fake guid";
static const char *ggml_backend_cpu_get_name(backend *b) { return b ? "CPU" : NULL; }
static const char *ggml_backend_fake_get_name(backend *b) { return b ? "Fake0" : NULL; }
static int cpu_compute(backend *b, cgraph *graph) {
  if (!b->pool) // at first use: a fork before that has no threads to lose
    b->pool = new_pool(b->n_threads);
  struct ggml_cplan plan = {b->pool, b->n_threads};
  n_cpu_graphs++;
  return ggml_graph_compute(graph, &plan);
}
static int fake_compute(backend *b, cgraph *graph) {
  (void)b, (void)graph;
  work(config.work_us * 1000LL, 0);
  return 0;
}
static backend *new_backend(backend init) {
  backend *b = malloc(sizeof *b);
  check(b, "out of memory");
  *b = init;
  return b;
}
backend *ggml_backend_cpu_init(void) {
  return new_backend(
      (backend){cpu_guid, ggml_backend_cpu_get_name, cpu_compute, config.threads, NULL});
}
backend *ggml_backend_fake_init(void) {
  return new_backend((backend){fake_guid, ggml_backend_fake_get_name, fake_compute, 1, NULL});
}
const char *ggml_backend_name(backend *b) { return b ? b->get_name(b) : "NULL"; }
const uint8_t *ggml_backend_guid(backend *b) { return b ? b->guid : NULL; }
void ggml_backend_free(backend *b) {
  if (b && b->pool) {
    kick(b->pool, NULL);
    for (int k = 0; k < b->pool->n_threads; k++) {
      if (k && !config.no_pool)
        pthread_join(b->pool->workers[k].thread, NULL);
      free(b->pool->workers[k].samples);
    }
    free(b->pool);
  }
  free(b);
}
int ggml_backend_graph_compute_async(backend *b, cgraph *graph) {
  return b->graph_compute(b, graph);
}
bool ggml_backend_sched_alloc_graph(void *sched, cgraph *graph) {
  static uint64_t uid;
  graph->uid = ++uid;
  known_split(sched, graph);
  return sched != NULL;
}

// ---- llama.cpp

#ifdef WITHOUT_LLAMA
#define PROCESS_UBATCH "known_process"
#else
#define PROCESS_UBATCH                                                                             \
  "_ZN13llama_context14process_ubatchERK12llama_ubatch14llm_graph_typeP22llama_memory_context_i"   \
  "R11ggml_status"
#endif
void *process_ubatch(struct llama_context *, const ubatch *, int type, void *memory,
                     int *status) __asm__(PROCESS_UBATCH);

static tensor *named(tensor *t, const char *format, int layer) {
  snprintf(t->name, NAME_SIZE, format, layer);
  return t;
}
static tensor *norm(context *c, tensor *x, const char *weight, const char *name, int il) {
  tensor *w = named(ggml_new_tensor_1d(c, F32, EMBD), weight, il);
  return named(ggml_mul(c, named(ggml_rms_norm(c, x, 1e-6f), "norm-%d", il), w), name, il);
}
static tensor *linear(context *c, tensor *x, int rows, const char *weight, const char *name,
                      int il) {
  tensor *w = named(ggml_new_tensor_2d(c, Q4_K, x->ne[0], rows), weight, il);
  return named(ggml_mul_mat(c, w, x), name, il);
}
static tensor *cached(struct llama_context *l, context *c, const char *name, int il) {
  tensor *t = named(ggml_new_tensor_1d(c, F16, (int64_t)EMBD * l->params.n_ctx), name, il);
  return ggml_view_1d(c, t, (int64_t)EMBD * l->graph_kv, 0);
}
static int n_rows(const struct llama_context *l) {
  return config.rows ? config.rows : (int)l->graph_tokens;
}
// Rows have a distance of their own, as those of an argsort of which the first columns are used.
static tensor *expert_ids(struct llama_context *l, context *c, int il) {
  tensor *t = named(ggml_new_tensor_2d(c, I32, config.used, n_rows(l)), "ffn_moe_topk-%d", il);
  t->nb[1] = config.experts * sizeof *routes;
  t->data = routes + (size_t)il * n_rows(l) * config.experts;
  return t;
}
static tensor *routed(context *c, tensor *x, int rows, tensor *ids, const char *weight,
                      const char *name, int il) {
  tensor *w = named(ggml_new_tensor_3d(c, Q4_K, EMBD, rows, config.experts), weight, il);
  tensor *t = op(NEW(c, F32, rows, ids->ne[0], ids->ne[1], 1), OP_MUL_MAT_ID, w, x);
  t->src[2] = ids;
  return named(t, name, il);
}
static tensor *mixture(struct llama_context *l, context *c, tensor *x, int il) {
  tensor *ids = expert_ids(l, c, il);
  tensor *up = routed(c, x, FF, ids, "blk.%d.ffn_up_exps.weight", "ffn_moe_up-%d", il);
  ggml_build_forward_expand(l->graph, up);
  x = routed(c, x, FF, ids, "blk.%d.ffn_gate_exps.weight", "ffn_moe_gate-%d", il);
  return routed(c, x, EMBD, ids, "blk.%d.ffn_down_exps.weight", "ffn_moe_down-%d", il);
}
// Rank r of row i of layer l in CPU graph g goes to expert (7 i + r + 3 l + 5 g) mod experts.
static void choose_experts(const struct llama_context *l) {
  const int e = config.experts, rows = n_rows(l);
  for (int il = 0; il <= l->model->n_layers; il++)
    for (int i = 0; i < rows; i++)
      for (int r = 0; r < config.used; r++)
        routes[((size_t)il * rows + i) * e + r] = (7L * i + r + 3 * il + 5 * n_cpu_graphs) % e;
}
static tensor *layer(struct llama_context *l, context *c, tensor *x, int il) {
  tensor *cur = norm(c, x, "blk.%d.attn_norm.weight", "attn_norm-%d", il);
  tensor *q = linear(c, cur, EMBD, "blk.%d.attn_q.weight", "Qcur-%d", il);
  q = ggml_reshape_2d(c, q, EMBD, l->graph_tokens);
  ggml_build_forward_expand(l->graph, q); // before the views of the cache, as in llama.cpp
  tensor *k = ggml_reshape_2d(c, cached(l, c, "cache_k_l%d", il), EMBD, l->graph_kv);
  tensor *v = ggml_reshape_2d(c, cached(l, c, "cache_v_l%d", il), l->graph_kv, EMBD);
  cur = named(ggml_mul_mat(c, v, named(ggml_mul_mat(c, k, q), "kq-%d", il)), "kqv-%d", il);
  cur = linear(c, cur, EMBD, "blk.%d.attn_output.weight", "attn_out-%d", il);
  x = named(ggml_add(c, cur, x), "ffn_inp-%d", il);
  cur = norm(c, x, "blk.%d.ffn_norm.weight", "ffn_norm-%d", il);
  if (config.experts)
    return named(op(like(c, x), OP_ADD, x, mixture(l, c, cur, il)), "l_out-%d", il);
  cur = linear(c, cur, FF, "blk.%d.ffn_gate.weight", "ffn_gate-%d", il);
  cur = named(ggml_silu(c, cur), "ffn_silu-%d", il);
  cur = linear(c, cur, EMBD, "blk.%d.ffn_down.weight", "ffn_out-%d", il);
  return named(ggml_add(c, cur, x), "l_out-%d", il);
}
static void build(struct llama_context *l) {
  const int n = l->model->n_layers;
  context *c = ggml_init((struct ggml_init_params){l->mem_size, l->mem, true});
  if (config.experts)
    routes = realloc(routes, (n + 1L) * n_rows(l) * config.experts * sizeof *routes);
  l->graph = ggml_new_graph_custom(c, 32 * n + 16, false);
  l->fake_graph = ggml_new_graph_custom(c, 16, false);
  tensor *x = named(ggml_new_tensor_2d(c, F32, EMBD, l->graph_tokens), "inp_embd", 0), *inp = x;
  for (int il = 0; il < n; il++)
    x = layer(l, c, x, il);
  x = norm(c, x, "output_norm.weight", "result_norm", n);
  ggml_build_forward_expand(l->graph, linear(c, x, VOCAB, "output.weight", "result_output", 0));
  x = named(ggml_add(c, inp, inp), "fake_add", 0);
  if (config.experts)
    x = routed(c, x, FF, expert_ids(l, c, n), "blk.%d.ffn_up_exps.weight", "ffn_moe_up-%d", n);
  x = named(ggml_silu(c, x), "fake_out", 0);
  ggml_build_forward_expand(l->fake_graph, x);
  ggml_free(c); // the tensors stay in l->mem
}
static int run(struct llama_context *l, backend *b, cgraph *g, bool rebuilt) {
  const worker before = b->pool ? b->pool->workers[0] : (worker){0};
  struct graph_log log = {ggml_backend_name(b), n_ubatches - 1, g->n_nodes, 0, 0, rebuilt,
                          l->graph_tokens,      l->graph_kv,    boottime(), 0};
  n_async++;
  const int status = ggml_backend_graph_compute_async(b, g);
  log.end = boottime();
  if (b->pool) {
    log.executed = b->pool->workers[0].executed - before.executed;
    log.views = b->pool->workers[0].views - before.views;
  }
  graph_logs = realloc(graph_logs, (n_graph_logs + 1) * sizeof log);
  check(graph_logs, "out of memory");
  graph_logs[n_graph_logs++] = log;
  return status;
}
void *process_ubatch(struct llama_context *l, const ubatch *ub, int type, void *memory,
                     int *status) {
  (void)type, (void)memory;
  l->n_kv += ub->n_tokens;
  const bool rebuild = !l->graph || ub->n_tokens != l->graph_tokens ||
                       (config.rebuild > 0 && (n_ubatches - 1) % config.rebuild == 0);
  if (rebuild) { // the only time that the graph learns how full the cache is
    l->graph_tokens = ub->n_tokens;
    l->graph_kv = l->n_kv;
    build(l);
    n_alloc_graph++;
    known_allocate(l, l->graph);
  }
  if (config.experts)
    choose_experts(l);
  tensor *const inp = l->graph->nodes[0]->src[0];
  known_set(inp, ub->token, ub->n_tokens * sizeof *ub->token);
  *status = run(l, l->cpu, l->graph, rebuild);
  if (l->fake) {
    known_copy(l->cpu, l->fake, inp, l->fake_graph->nodes[0]);
    *status |= run(l, l->fake, l->fake_graph, rebuild);
  }
  return l;
}
void llama_backend_init(void) {}
struct llama_model_params llama_model_default_params(void) {
  return (struct llama_model_params){0};
}
struct llama_context_params llama_context_default_params(void) {
  return (struct llama_context_params){512, 2048, 512, 1, config.threads, {0}};
}
struct llama_model *llama_model_load_from_file(const char *path, struct llama_model_params p) {
  struct llama_model *m = access(path, R_OK) ? NULL : malloc(sizeof *m);
  (void)p;
  if (m)
    m->n_layers = config.layers;
  return m;
}
void llama_model_free(struct llama_model *m) { free(m); }
struct llama_context *llama_init_from_model(struct llama_model *m, struct llama_context_params p) {
  struct llama_context *l = calloc(1, sizeof *l);
  check(l && m && p.n_ubatch && p.n_seq_max, "llama_init_from_model");
  l->model = m;
  l->params = p;
  l->cpu = ggml_backend_cpu_init();
  l->cpu->n_threads = p.n_threads > 0 ? p.n_threads : config.threads;
  l->fake = config.backend2 ? ggml_backend_fake_init() : NULL;
  l->mem_size = (m->n_layers * 28 + 20) * ggml_tensor_overhead() +
                graph_bytes(m->n_layers * 32 + 16) + graph_bytes(16);
  l->mem = malloc(l->mem_size);
  return l;
}
void llama_free(struct llama_context *l) {
  ggml_backend_free(l->cpu);
  ggml_backend_free(l->fake);
  free(l->mem);
  free(l);
}
uint32_t llama_n_ctx(const struct llama_context *l) { return l->params.n_ctx; }
uint32_t llama_n_seq_max(const struct llama_context *l) { return l->params.n_seq_max; }

struct llama_batch llama_batch_init(int32_t n, int32_t embd, int32_t n_seq_max) {
  struct llama_batch b = {.pos = malloc(n * sizeof *b.pos), .logits = calloc(n, 1)};
  b.n_seq_id = malloc(n * sizeof *b.n_seq_id);
  b.seq_id = calloc(n + 1, sizeof *b.seq_id); // ends with NULL, for llama_batch_free
  for (int i = 0; i < n; i++)
    b.seq_id[i] = calloc(n_seq_max, sizeof **b.seq_id);
  if (embd)
    b.embd = malloc((size_t)n * embd * sizeof *b.embd);
  else
    b.token = malloc(n * sizeof *b.token);
  return b;
}
void llama_batch_free(struct llama_batch b) {
  for (int i = 0; b.seq_id && b.seq_id[i]; i++)
    free(b.seq_id[i]);
  void *const arrays[] = {b.token, b.embd, b.pos, b.n_seq_id, b.seq_id, b.logits};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
    free(arrays[i]);
}
// Distinct sequences of n tokens; *equal: each has as many tokens as the others.
static int unique(const ubatch *ub, int n, int n_seq_max, int32_t *ids, bool *equal) {
  int count[n_seq_max], n_ids = 0;
  memset(count, 0, sizeof count);
  for (int i = 0; i < n; i++)
    if (!count[ub->seq_id[i][0]]++)
      ids[n_ids++] = ub->seq_id[i][0];
  *equal = true;
  for (int i = 0; i < n_ids; i++)
    *equal = *equal && count[ids[i]] == count[ids[0]];
  return n_ids;
}
int32_t llama_decode(struct llama_context *l, struct llama_batch in) {
  const int n_seq_max = l->params.n_seq_max, n_ubatch = l->params.n_ubatch;
  int32_t ids[n_seq_max];
  int status = 0;
  if (known_config()->fail)
    known_config()->fail();
  if (in.n_tokens <= 0 || (uint32_t)in.n_tokens > l->params.n_batch || (!in.token && !in.embd))
    return -1;
  for (int i = 0; in.seq_id && i < in.n_tokens; i++)
    if (in.seq_id[i][0] < 0 || in.seq_id[i][0] >= n_seq_max)
      return -1;
  if (l->n_kv + in.n_tokens > l->params.n_ctx)
    return 1; // no room in the KV cache
  // llama.cpp lets callers leave these four out.
  struct llama_batch b = llama_batch_init(in.n_tokens, 0, 1);
  for (int i = 0; i < in.n_tokens; i++) {
    b.pos[i] = in.pos ? in.pos[i] : (int)l->n_kv + i;
    b.n_seq_id[i] = in.n_seq_id ? in.n_seq_id[i] : 1;
    b.seq_id[i][0] = in.seq_id ? in.seq_id[i][0] : 0;
    b.logits[i] = in.logits ? in.logits[i] : i == in.n_tokens - 1;
  }
  for (int at = 0, n; at < in.n_tokens && !status; at += n) {
    n = in.n_tokens - at < n_ubatch ? in.n_tokens - at : n_ubatch;
    // Not on the stack, where `b` follows it with the same contents.
    static struct {
      ubatch ub;
      char room[256];
    } heap;
    ubatch *const ub = &heap.ub;
    *ub = (ubatch){.pos = b.pos + at, .output = b.logits + at, .n_tokens = n, .seq_id_unq = ids};
    ub->token = in.token ? in.token + at : NULL;
    ub->embd = in.embd ? in.embd + (size_t)EMBD * at : NULL;
    ub->n_seq_id = b.n_seq_id + at;
    ub->seq_id = b.seq_id + at;
    bool equal;
    ub->n_seqs_unq = unique(ub, n, n_seq_max, ids, &equal);
    // As llama.cpp: with one sequence, "simple" batches count every token as a sequence set.
    ub->equal_seqs = equal && n_seq_max > 1;
    ub->n_seqs = ub->equal_seqs ? ub->n_seqs_unq : ub->n_tokens;
    ub->n_seq_tokens = ub->n_tokens / ub->n_seqs;
    n_ubatches++;
    process_ubatch(l, ub, 0, NULL, &status);
  }
  known_wait(l->cpu);
  known_get(l->graph->nodes[l->graph->n_nodes - 1], NULL, VOCAB * sizeof(float));
  llama_batch_free(b);
  return status ? -3 : 0;
}

// ---- the truth

struct known_config *known_config(void) {
  return &config;
}
long known_ubatches(void) { return n_ubatches; }
void known_truth(FILE *out, struct llama_context *l) {
  const threadpool *tp = l->cpu->pool;
  const int n = tp ? tp->n_threads : 0;
  worker sum = {0};
  fputs("\"threads\": [", out);
  for (int k = 0; k < n; k++) {
    const worker *w = &tp->workers[k];
    fprintf(out, "%s{\"tid\": %d, \"extra\": %ld, \"fused\": %ld, ", k ? ", " : "", w->tid,
            w->extra, w->fused);
    fprintf(out, "\"barrier_outside\": %ld, \"barrier_inside\": %ld, ", w->outside, w->inside);
    fprintf(out, "\"executed\": %ld, \"views\": %ld}", w->executed, w->views);
    sum.extra += w->extra;
    sum.fused += w->fused;
    sum.outside += w->outside;
    sum.inside += w->inside;
  }
  fprintf(out, "], \"barrier_outside\": %ld, \"barrier_inside\": %ld, ", sum.outside, sum.inside);
  fprintf(out, "\"calls\": {\"ggml_cpu_extra_compute_forward\": %ld, ", sum.extra);
  fprintf(out, "\"ggml_compute_forward_rms_norm_mul_fused\": %ld, ", sum.fused);
  fprintf(out, "\"ggml_barrier\": %ld, ", sum.outside + sum.inside);
  fprintf(out, "\"ggml_graph_compute\": %ld, ", n_cpu_graphs);
  fprintf(out, "\"ggml_backend_graph_compute_async\": %ld, ", n_async);
  fprintf(out, "\"ggml_backend_sched_alloc_graph\": %ld, ", n_alloc_graph);
  fprintf(out, "\"%s\": %ld}, \"graphs\": [", PROCESS_UBATCH, n_ubatches);
  for (long i = 0; i < n_graph_logs; i++) {
    const struct graph_log *g = &graph_logs[i];
    fprintf(out, "%s[%ld, \"%s\", %ld, %ld, %ld, %d, %d, %d, %ld, %ld]", i ? ", " : "", g->ubatch,
            g->backend, g->nodes, g->executed, g->views, g->rebuilt, g->n_tokens, g->n_kv,
            (long)g->start, (long)g->end);
  }
  fputs("], \"samples\": [", out);
  const char *comma = "";
  for (int k = 0; k < n; k++)
    for (int i = 0; i < tp->workers[k].n_samples; i++, comma = ", ") {
      const sample *s = &tp->workers[k].samples[i];
      fprintf(out, "%s[%d, \"%s\", %ld, %ld, %ld, %ld, \"%s\", %d, %d]", comma, tp->workers[k].tid,
              s->name, (long)s->start, (long)s->end, (long)s->inner_entry, (long)s->inner_exit,
              s->op, s->graph, s->node);
    }
  fputs("]", out);
}
