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

#include "parameters.h"
#include "records.h"

#define BODY static __always_inline

/* Keeps the compiler from using what it knows of a number: older verifiers know less, and want the
 * masks that it would leave out. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))

/* A tail call per chunk; the kernel allows 33 in a row. */
#define HASH_CHUNK 512
#define EMIT_CHUNK 256
#define TOKEN_CHUNK 256
#define CHAIN_MAX 32
#define SAMPLES 8

enum chain { CHAIN_HASH, CHAIN_EMIT, CHAIN_TOKENS, CHAIN_COUNT };

/* Graph entry points: a CPU graph is often computed inside a backend's graph. */
enum entry { ENTRY_NONE, ENTRY_BACKEND, ENTRY_CPU };

/* What is known of one thread that computes graphs. */
struct thread_state {
  __u64 entry;     /* of the graph it is in */
  __u64 ubatch_ts; /* of the ubatch it is in, 0 outside */
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
  __u32 tokens;
  __u32 token;
  __u32 runs_sent;
  __u32 runs;
  struct token_run run[16]; /* RUNS, rounded up likewise */
#if TRANSPORT == TRANSPORT_PERF
  __u8 wide[WIDE_SIZE]; /* a wide record while it is being made */
#endif
};

/* ---- What a dialect provides ---- */
BODY struct control *control(void);
BODY struct ring_head *ring_head(__u32 cpu);
#if TRANSPORT == TRANSPORT_RING
BODY struct record *ring_slot(__u32 index); /* of the array of all rings, one after another */
BODY void *structure_reserve(void);
BODY void structure_submit(void *r);
#else
BODY long record_output(void *ctx, struct record *r); /* 0, or it did not fit */
BODY long structure_output(void *ctx, void *r);
#endif
BODY struct loss *loss_of(__u32 cpu, __u32 kind);
BODY struct thread_state *thread_state(__u32 tid);
BODY struct graph_state *graph_state(__u64 cgraph);
BODY struct walk *walk_of(__u32 tid);
BODY __u64 *structure_of(__u64 hash);
BODY void structure_set(__u64 hash, __u64 structure);
BODY __u64 *signature_of(__u64 tensor);
BODY void signature_set(__u64 tensor, __u64 signature);
BODY void chain_to(void *ctx, __u32 program);

/* ---- Records ---- */

/* CLOCK_BOOTTIME. Before 5.8 user space says by how much it differs from what there is. */
BODY __u64 boot_ns(void) {
  struct control *c;
  if (BOOT_CLOCK)
    return bpf_ktime_get_boot_ns();
  c = control();
  return bpf_ktime_get_ns() + (c ? c->boot_offset : 0);
}

BODY void count_loss(__u32 cpu, __u32 kind) {
  struct loss *l = loss_of(cpu, kind);
  if (!l)
    return;
  l->last_ts = boot_ns();
  __sync_fetch_and_add(&l->lost, 1);
}

/* A transport provides
 *   try_emit:   sends a record; its time, 0 when it did not fit.
 *   wide_begin: room for a wide record; 0 when there is none.
 *   wide_end:   sends it; 0, or it did not fit. */
#if TRANSPORT == TRANSPORT_RING
#include "ring.h"
#else
#include "perf.h"
#endif

BODY __u64 emit(void *ctx, __u8 kind, __u64 a, __u64 b) {
  __u32 cpu = bpf_get_smp_processor_id();
  __u64 ts = try_emit(ctx, cpu, kind, a, b);
  if (!ts)
    count_loss(cpu, kind);
  return ts;
}

BODY void fill_header(struct wide_header *h, __u8 kind, __u64 ts) {
  h->ts = ts;
  h->tid = (__u32)bpf_get_current_pid_tgid();
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

BODY int handle_operator(void *ctx, __u64 tensor) {
  if (is_active())
    emit(ctx, KIND_OPERATOR, tensor, 0);
  return 0;
}

BODY int handle_fused(void *ctx, __u64 first, __u64 last) {
  if (is_active())
    emit(ctx, KIND_FUSED, last, first);
  return 0;
}

BODY int handle_barrier(void *ctx, __u64 threadpool) {
  if (is_active())
    emit(ctx, KIND_BARRIER, threadpool, 0);
  return 0;
}

#endif
