// What an engine's interface is asked beside decoding, and the truth about it.
#define _GNU_SOURCE
#include "known.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifndef WITHOUT_LLAMA
typedef struct llama_memory *memory;
typedef struct llama_context *context;
enum { ROOM = 4096, OF_MEMORY = 16 };
static struct asked {
  const char *name;
  long argument[6], result;
  int count, tid;
  int64_t begin, end;
} asked[ROOM];
static long n_asked;
static jmp_buf back;

memory llama_get_memory(context);
bool llama_memory_seq_rm(memory, int32_t sequence, int32_t begin, int32_t end);
void llama_memory_seq_cp(memory, int32_t source, int32_t sequence, int32_t begin, int32_t end);
void llama_memory_seq_keep(memory, int32_t sequence);
void llama_memory_seq_add(memory, int32_t sequence, int32_t begin, int32_t end, int32_t delta);
void llama_memory_seq_div(memory, int32_t sequence, int32_t begin, int32_t end, int divisor);
void llama_memory_clear(memory, bool data);
bool llama_kv_self_seq_rm(context, int32_t sequence, int32_t begin, int32_t end);
int32_t llama_process(context, int type, void *batch);
int32_t llama_encode(context, struct llama_batch batch);
size_t llama_state_seq_set_data(context, const void *from, size_t size, int32_t sequence);
void llama_set_warmup(context, bool on);
int32_t llama_sampler_sample(void *sampler, context, int32_t output);
int32_t
common_sample(void *sampler, context, int output,
              bool first) __asm__("_Z21common_sampler_sampleP14common_samplerP13llama_contextib");

memory llama_get_memory(context l) { return (memory)((char *)l + OF_MEMORY); }
bool llama_memory_seq_rm(memory m, int32_t sequence, int32_t begin, int32_t end) {
  (void)m, (void)end;
  return (sequence + begin) % 2;
}
// Each does something that no other does: the linker may not make one of them.
#define EFFECT(n) __asm__ volatile("" : : "i"(n) : "memory")
void llama_memory_seq_cp(memory m, int32_t from, int32_t to, int32_t begin, int32_t end) {
  (void)m, (void)from, (void)to, (void)begin, (void)end;
  EFFECT(1);
}
void llama_memory_seq_keep(memory m, int32_t sequence) {
  (void)m, (void)sequence;
  EFFECT(2);
}
void llama_memory_seq_add(memory m, int32_t sequence, int32_t begin, int32_t end, int32_t delta) {
  (void)m, (void)sequence, (void)begin, (void)end, (void)delta;
  EFFECT(3);
}
void llama_memory_seq_div(memory m, int32_t sequence, int32_t begin, int32_t end, int divisor) {
  (void)m, (void)sequence, (void)begin, (void)end, (void)divisor;
  EFFECT(4);
}
void llama_memory_clear(memory m, bool data) {
  (void)m, (void)data;
  EFFECT(5);
}
// By two others.
bool llama_kv_self_seq_rm(context l, int32_t sequence, int32_t begin, int32_t end) {
  const bool is_gone = llama_memory_seq_rm(llama_get_memory(l), sequence, begin, end);
  EFFECT(7);
  return is_gone;
}
int32_t llama_process(context l, int type, void *batch) {
  (void)l, (void)batch;
  return -7 * type;
}
// Does not return.
int32_t llama_encode(context l, struct llama_batch batch) {
  (void)l, (void)batch;
  longjmp(back, 1);
}
size_t llama_state_seq_set_data(context l, const void *from, size_t size, int32_t sequence) {
  (void)l, (void)from, (void)sequence;
  return size / 2;
}
void llama_set_warmup(context l, bool on) {
  (void)l, (void)on;
  EFFECT(6);
}
int32_t llama_sampler_sample(void *sampler, context l, int32_t output) {
  (void)sampler, (void)l;
  return 1000 + output;
}
int32_t common_sample(void *sampler, context l, int output, bool first) {
  return llama_sampler_sample(sampler, l, output) + first;
}

static int64_t boottime(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000000000l + now.tv_nsec;
}
// Calls, and notes it: its role, the value of the call, and its arguments.
#define ASK(role, call, ...)                                                                       \
  do {                                                                                             \
    const long index = __atomic_fetch_add(&n_asked, 1, __ATOMIC_RELAXED) % ROOM;                   \
    const int64_t begin = boottime();                                                              \
    const long result = (long)(call);                                                              \
    const int64_t end = boottime();                                                                \
    const long argument[] = {__VA_ARGS__};                                                         \
    struct asked *a = &asked[index];                                                               \
    *a = (struct asked){.name = role,                                                              \
                        .result = result,                                                          \
                        .tid = gettid(),                                                           \
                        .begin = begin,                                                            \
                        .end = end,                                                                \
                        .count = sizeof argument / sizeof *argument};                              \
    for (int i = 0; i < a->count; i++)                                                             \
      a->argument[i] = argument[i];                                                                \
  } while (0)
#define VOID(call) ((call), 0)

static void *from_a_thread(void *l) {
  ASK("sample", llama_sampler_sample(&back, l, 5), (long)&back, (long)l, 5);
  return NULL;
}
void known_ask(struct llama_context *l, int step) {
  const long context_ = (long)l, m = (long)l + OF_MEMORY;
  ASK("memory", llama_get_memory(l), context_);
  ASK("remove", llama_memory_seq_rm((memory)m, step, -1, step + 4), m, step, -1, step + 4);
  ASK("remove", llama_kv_self_seq_rm(l, step, 3, -1), context_, step, 3, -1);
  ASK("copy", VOID(llama_memory_seq_cp((memory)m, 0, step, 1, -1)), m, 0, step, 1, -1);
  ASK("keep", VOID(llama_memory_seq_keep((memory)m, step)), m, step);
  ASK("add", VOID(llama_memory_seq_add((memory)m, step, 9, 99, -9)), m, step, 9, 99, -9);
  ASK("divide", VOID(llama_memory_seq_div((memory)m, step, 9, 99, 3)), m, step, 9, 99, 3);
  ASK("clear", VOID(llama_memory_clear((memory)m, step % 2)), m);
  ASK("restore", VOID(llama_state_seq_set_data(l, &back, step, step)), context_, step);
  ASK("warmup", VOID(llama_set_warmup(l, step % 2)), context_, step % 2);
  if (!setjmp(back))
    llama_encode(l, (struct llama_batch){0});
  ASK("process", llama_process(l, step % 2, NULL), context_, step % 2);
  ASK("sample", common_sample(&asked, l, step, true), (long)&asked, context_, step);
  pthread_t thread;
  if (!pthread_create(&thread, NULL, from_a_thread, l))
    pthread_join(thread, NULL);
}
void known_asked(FILE *out) {
  fputs("\"asked\": [", out);
  for (long i = 0; i < n_asked && i < ROOM; i++) {
    const struct asked *a = &asked[i];
    fprintf(out, "%s[\"%s\", %d, %ld, %ld, [", i ? ", " : "", a->name, a->tid, (long)a->begin,
            (long)a->end);
    for (int k = 0; k < a->count; k++)
      fprintf(out, "%s%ld", k ? ", " : "", a->argument[k]);
    fprintf(out, "], %ld]", a->result);
  }
  fputs("], ", out);
}
#else // a program that has ggml alone is asked for nothing else
void known_ask(struct llama_context *l, int step) { (void)l, (void)step; }
void known_asked(FILE *out) { (void)out; }
#endif
