/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The body of every handler, once, for both BPF dialects and both transports.
 *
 * A dialect (bcc.c, profinfer.bpf.c) defines the parameters, the maps, the functions declared in
 * "What a dialect provides", and programs that only fetch arguments and call a body here. A
 * transport (ring.h, perf.h) carries the records.
 */
#ifndef PROFINFER_HANDLERS_H
#define PROFINFER_HANDLERS_H

#include "emit.h"
#include "steps.h"

/* Keeps the compiler from using what it knows of a number: older verifiers know less, and want the
 * masks that it would leave out. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))

/* A tail call per chunk; the kernel allows 33 in a row. */
#define HASH_CHUNK 512
#define EMIT_CHUNK 256
#define TOKEN_CHUNK 256
#define CHAIN_MAX 32
/* Times that a function is called at most where no chain is needed. */
#define LOOP_MAX (1 << 20)
#define SAMPLES 8

enum chain { CHAIN_HASH, CHAIN_EMIT, CHAIN_TOKENS, CHAIN_EXPERTS, CHAIN_STEP, CHAIN_COUNT };

/* Graph entry points: a CPU graph is often computed inside a backend's graph. */
enum entry { ENTRY_NONE, ENTRY_BACKEND, ENTRY_CPU };

/* What a function was called with, as far as it is in registers. */
struct arguments {
  __u64 a, b, c, d, e, f;
};

/* What is known of one thread that computes graphs. */
struct thread_state {
  __u64 entry;     /* of the graph it is in */
  __u64 ubatch_ts; /* of the ubatch it is in, 0 outside */
  __u64 tokens;    /* in that */
  __u64 ids;       /* tensor of experts' ids that was read last in this graph */
};

/* What was last seen at the address of a cgraph. */
struct graph_state {
  __u64 nodes;
  __u64 count;
  __u64 rebuilds;
  __u64 samples;
  __u64 structure;
};

/* Scratch of a walk, kept from tail call to tail call; one per thread. */
struct walk {
  __u64 cgraph;
  __u64 backend;
  __u64 nodes;
  __u64 hash;
  __u64 structure;
  __u64 rebuilds;
  __u64 samples;
  __u64 hashed;     /* samples of the graph that is being walked */
  __u64 unfinished; /* its cgraph when the walk goes on at the next graph */
  __u32 count;
  __u32 node;   /* next node */
  __u32 source; /* next source of it, 0 for the node itself */
  __u32 calls;
  __u32 sources;
  __u64 src[16]; /* SOURCES, rounded up so that a mask bounds the index */
  __u8 tensor[TENSOR_MAX];
  /* tokens of a ubatch */
  __u64 pos;
  __u64 seq_id;
  __u64 output;
  __u64 tokens_ts;
  __u32 step; /* its number, on the way to the program that they share */
  __u32 tokens;
  __u32 token;
  __u32 runs_sent;
  __u32 runs;
  struct token_run run[16]; /* RUNS, rounded up likewise */
  /* experts of an operator; `tensor` holds the values that are read and not sent yet */
  __u64 rows_node;
  __u64 rows_source;
  __u64 rows_data;
  __u64 rows_step;   /* from one value to the next */
  __u64 rows_stride; /* from one token to the next */
  __u64 rows_ts;
  __u32 rows_used;
  __u32 rows_tokens;
  __u32 rows_token;  /* next */
  __u32 rows_rank;   /* next value of it */
  __u32 rows_sent;   /* values sent, or lost */
  __u32 rows_filled; /* values read since */
  __u32 rows_kind;
  __u32 rows_flags;
#if TRANSPORT == TRANSPORT_PERF
  __u8 wide[WIDE_SIZE]; /* a wide record while it is being made */
#endif
};

/* ---- What a dialect provides, beside what emit.h needs ---- */
BODY struct control *control(void);
BODY struct step *step(__u32 number);
#if TRANSPORT == TRANSPORT_RING
BODY void *structure_reserve(void);
BODY void structure_submit(void *r);
#else
BODY long structure_output(void *ctx, void *r); /* 0, or it did not fit */
#endif
BODY struct thread_state *thread_state(__u32 tid);
BODY struct graph_state *graph_state(__u64 cgraph);
BODY struct walk *walk_of(__u32 tid);
BODY __u64 *structure_of(__u64 hash);
BODY void structure_set(__u64 hash, __u64 structure);
BODY __u64 *signature_of(__u64 tensor);
BODY void signature_set(__u64 tensor, __u64 signature);
BODY void chain_to(void *ctx, __u32 program);

/* Only the target's own threads get here, and user space knows those. What programs keep for
 * themselves is by the machine's numbers. */
BODY __u32 running_thread(void) {
  if (!PID_LEVEL)
    return bpf_get_current_pid_tgid();
  return read_kernel(pid_of(bpf_get_current_task()) + PID_NUMBER);
}

BODY __u64 boot_offset(void) {
  struct control *c = control();
  return c ? c->boot_offset : 0;
}

/* ---- Wide records ----
 *   wide_begin: room for one; 0 when there is none.
 *   wide_end:   sends it; 0, or it did not fit. */
#if TRANSPORT == TRANSPORT_RING
BODY void *wide_begin(struct walk *w) { return structure_reserve(); }

BODY int wide_end(void *ctx, void *r) {
  structure_submit(r);
  return 0;
}
#else
BODY void *wide_begin(struct walk *w) {
  struct ring_head *head = ring_head(bpf_get_smp_processor_id());
  if (!head)
    return 0;
  __sync_fetch_and_add(&head->next, 1);
  return w->wide;
}

BODY int wide_end(void *ctx, void *r) {
  struct ring_head *head = ring_head(bpf_get_smp_processor_id());
  long failed = structure_output(ctx, r);
  if (head)
    __sync_fetch_and_add(&head->ended, 1);
  return failed ? -1 : 0;
}
#endif

#include "counters.h"

/* As emit, with the running thread's counters where they are asked for. */
BODY void emit_counted(void *ctx, __u8 kind, __u64 a, __u64 b) {
  if (!COUNTERS) {
    emit(ctx, kind, a, b);
    return;
  }
  __u32 cpu = bpf_get_smp_processor_id(), lost;
  if (!try_emit_counted(ctx, cpu, kind, a, b, read_counters(cpu), &lost))
    count_loss(cpu, kind);
  if (lost)
    count_losses(cpu, KIND_COUNTERS, lost);
}

BODY void fill_header(struct wide_header *h, __u32 tid, __u8 kind, __u64 ts) {
  h->ts = ts;
  h->tid = tid;
  h->cpu = bpf_get_smp_processor_id();
  h->kind = kind;
  h->flags = 0;
}

BODY __u64 read_u64(__u64 address) {
  __u64 value = 0;
  bpf_probe_read_user(&value, sizeof(value), (void *)address);
  return value;
}

BODY __u32 read_u32(__u64 address) {
  __u32 value = 0;
  bpf_probe_read_user(&value, sizeof(value), (void *)address);
  return value;
}

BODY int is_active(void) {
  struct control *c = control();
  return c && c->active;
}

/* ---- Operators and barriers: the hot path ---- */

BODY void begin_experts(void *ctx, __u64 tensor);

BODY int handle_operator(void *ctx, __u64 tensor) {
  if (is_active()) {
    emit_counted(ctx, KIND_OPERATOR, tensor, 0);
    if (EXPERTS)
      begin_experts(ctx, tensor);
  }
  return 0;
}

BODY int handle_fused(void *ctx, __u64 first, __u64 last) {
  if (is_active())
    emit_counted(ctx, KIND_FUSED, last, first);
  return 0;
}

BODY int handle_barrier(void *ctx, __u64 threadpool) {
  if (is_active())
    emit_counted(ctx, KIND_BARRIER, threadpool, 0);
  return 0;
}

#endif
