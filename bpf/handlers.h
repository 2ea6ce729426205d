/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The body of every handler, once, for both BPF dialects.
 *
 * A dialect (bcc.c; a libbpf one can stand beside it) defines the maps, the functions declared
 * in "What a dialect provides", and programs that only fetch arguments and call a body here.
 * Offsets in the target's structs come as macros (T_*, G_*, B_*, U_*) from profinfer/layout.py:
 * no number of a ggml version stands in this file.
 */
#ifndef PROFINFER_HANDLERS_H
#define PROFINFER_HANDLERS_H

#include "records.h"

#define BODY static __always_inline

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
  __u8 tensor[T_SIZE + 8];
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
};

/* ---- What a dialect provides ---- */
BODY struct control *control(void);
BODY struct ring_head *ring_head(__u32 cpu);
BODY struct record *ring_slot(__u32 index); /* of the array of all rings, one after another */
BODY void *wide_reserve(void);
BODY void wide_submit(void *r);
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

BODY void count_loss(__u32 cpu, __u32 kind) {
  struct loss *l = loss_of(cpu, kind);
  if (!l)
    return;
  l->last_ts = bpf_ktime_get_boot_ns();
  __sync_fetch_and_add(&l->lost, 1);
}

/* Takes the number of a record; NO_SLOT when the ring is full. Only a task that preempts this one
 * between the two lines can be in the way, so that a second try is plenty. */
#define NO_SLOT (~0ULL)
#define TRIES 2
BODY __u64 take_slot(struct ring_head *head) {
#pragma unroll
  for (int i = 0; i < TRIES; i++) {
    __u64 next = *(volatile __u64 *)&head->next;
    if (next - *(volatile __u64 *)&head->taken >= RING_SLOTS)
      return NO_SLOT;
    if (__sync_val_compare_and_swap(&head->next, next, next + 1) == next)
      return next;
  }
  return NO_SLOT;
}

/* The last word of a record. User space must see it after the others: x86 keeps stores in order,
 * elsewhere an atomic exchange does. */
BODY void finish_record(struct record *r, __u64 last) {
  __u64 *word = (__u64 *)&r->tid;
#ifdef STORES_IN_ORDER
  __asm__ volatile("" ::: "memory");
  *(volatile __u64 *)word = last;
#else
  __sync_lock_test_and_set(word, last);
#endif
}

/* The time is taken after the slot: while it is being filled the drain stops at it, so that
 * everything user space has not seen yet is younger than what it has. */
BODY __u64 try_emit(__u32 cpu, __u8 kind, __u64 a, __u64 b) {
  struct ring_head *head = ring_head(cpu);
  if (!head)
    return 0;
  __u64 number = take_slot(head);
  if (number == NO_SLOT)
    return 0;
  struct record *r = ring_slot(cpu * RING_SLOTS + (number & (RING_SLOTS - 1)));
  if (!r)
    return 0;
  __u64 now = bpf_ktime_get_boot_ns();
  __u64 mark = number / RING_SLOTS + 1;
  r->ts = now;
  r->a = a;
  r->b = b;
  finish_record(r, (__u32)bpf_get_current_pid_tgid() | (__u64)cpu << 32 | (__u64)kind << 48 |
                       mark << 56);
  return now;
}

BODY __u64 emit(__u8 kind, __u64 a, __u64 b) {
  __u32 cpu = bpf_get_smp_processor_id();
  __u64 ts = try_emit(cpu, kind, a, b);
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

BODY int handle_operator(__u64 tensor) {
  if (is_active())
    emit(KIND_OPERATOR, tensor, 0);
  return 0;
}

BODY int handle_fused(__u64 first, __u64 last) {
  if (is_active())
    emit(KIND_FUSED, last, first);
  return 0;
}

BODY int handle_barrier(__u64 threadpool) {
  if (is_active())
    emit(KIND_BARRIER, threadpool, 0);
  return 0;
}

#endif
