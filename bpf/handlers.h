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
#define EMIT_CHUNK 320
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
BODY struct record *ring_reserve(__u32 cpu);
BODY void ring_submit(struct record *r);
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

/* The time is taken after the slot: while it is being filled the drain stops at it, so that
 * everything user space has not seen yet is younger than what it has. */
BODY __u64 try_emit(__u32 cpu, __u8 kind, __u64 a, __u64 b) {
  struct record *r = ring_reserve(cpu);
  if (!r)
    return 0;
  __u64 now = bpf_ktime_get_boot_ns();
  r->ts = now;
  r->a = a;
  r->b = b;
  r->tid = (__u32)bpf_get_current_pid_tgid();
  r->cpu = cpu;
  r->kind = kind;
  r->flags = 0;
  ring_submit(r);
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

/* ---- Graphs and their structure ---- */

BODY int handle_rebuild(void) {
  struct control *c = control();
  if (c)
    __sync_fetch_and_add(&c->rebuilds, 1);
  return 0;
}

#define MIX(h, v) ((h) = ((h) ^ (__u64)(v)) * 0x9E3779B97F4A7C15ull, (h) ^= (h) >> 29)
#define FIELD(buf, type, offset) (*(type *)((buf) + (offset)))

/* Reads one tensor into w->tensor; its signature changes when anything that we report does. */
BODY __u64 read_tensor(struct walk *w, __u64 tensor) {
  __u64 h = tensor;
  int i;
  if (bpf_probe_read_user(w->tensor, T_SIZE, (void *)tensor))
    return 0;
#pragma unroll
  for (i = 0; i < 4; i++) {
    MIX(h, FIELD(w->tensor, __u64, T_NE + 8 * i));
    MIX(h, FIELD(w->tensor, __u64, T_NB + 8 * i));
  }
#pragma unroll
  for (i = 0; i < 4; i++)
    MIX(h, FIELD(w->tensor, __u64, T_NAME + 8 * i));
#pragma unroll
  for (i = 0; i < (T_SOURCES < 4 ? T_SOURCES : 4); i++)
    MIX(h, FIELD(w->tensor, __u64, T_SRC + 8 * i));
  MIX(h, FIELD(w->tensor, __u32, T_OP));
  MIX(h, FIELD(w->tensor, __u32, T_TYPE));
  MIX(h, FIELD(w->tensor, __u32, T_OP_PARAMS));
  return h ? h : 1;
}

BODY int send_tensor(struct walk *w, __u64 tensor) {
  struct tensor_record *r = wide_reserve();
  int i;
  if (!r)
    return -1;
  fill_header(&r->header, KIND_TENSOR, bpf_ktime_get_boot_ns());
  r->address = tensor;
  r->data = FIELD(w->tensor, __u64, T_DATA);
  r->buffer = T_BUFFER < 0 ? 0 : FIELD(w->tensor, __u64, T_BUFFER < 0 ? 0 : T_BUFFER);
  r->view_src = T_VIEW_SRC < 0 ? 0 : FIELD(w->tensor, __u64, T_VIEW_SRC < 0 ? 0 : T_VIEW_SRC);
#pragma unroll
  for (i = 0; i < 4; i++) {
    r->ne[i] = FIELD(w->tensor, __s64, T_NE + 8 * i);
    r->nb[i] = FIELD(w->tensor, __u64, T_NB + 8 * i);
  }
#pragma unroll
  for (i = 0; i < SOURCES; i++)
    r->src[i] = i < T_SOURCES ? FIELD(w->tensor, __u64, T_SRC + 8 * (i < T_SOURCES ? i : 0)) : 0;
  r->op_params[0] = FIELD(w->tensor, __s32, T_OP_PARAMS);
  r->op_params[1] = FIELD(w->tensor, __s32, T_OP_PARAMS + 4);
  r->type = FIELD(w->tensor, __u32, T_TYPE);
  r->op = FIELD(w->tensor, __u32, T_OP);
  r->tensor_flags = T_FLAGS < 0 ? 0 : FIELD(w->tensor, __u32, T_FLAGS < 0 ? 0 : T_FLAGS);
  r->reserved = 0;
#pragma unroll
  for (i = 0; i < NAME_SIZE / 8; i++)
    *(__u64 *)(r->name + 8 * i) =
        8 * i + 8 <= T_NAME_SIZE
            ? FIELD(w->tensor, __u64, T_NAME + (8 * i + 8 <= T_NAME_SIZE ? 8 * i : 0))
            : 0;
  wide_submit(r);
  return 0;
}

/* A cheap look at a graph that was not announced as rebuilt: eight nodes spread over it. */
BODY __u64 sample_nodes(struct walk *w) {
  __u64 h = w->nodes ^ w->count;
  int i;
#if G_UID >= 0
  /* Newer engines number their graphs: then this is all there is to ask. */
  __u64 uid = read_u64(w->cgraph + G_UID);
  if (uid)
    return uid;
#endif
#pragma unroll
  for (i = 0; i < SAMPLES; i++) {
    __u64 tensor = read_u64(w->nodes + 8 * ((__u64)w->count * i / SAMPLES));
    MIX(h, tensor);
    MIX(h, read_u64(tensor + T_NE));
    MIX(h, read_u64(tensor + T_NE + 8));
    MIX(h, read_u32(tensor + T_OP));
  }
  return h;
}

BODY int begin_graph(struct walk *w, __u64 structure) {
  struct graph_state *g = graph_state(w->cgraph);
  if (g) {
    g->nodes = w->nodes;
    g->count = w->count;
    g->rebuilds = w->rebuilds;
    g->samples = w->samples;
    g->structure = structure;
  }
  /* Last, so that the price of the walk is not part of the graph's time. */
  emit(KIND_GRAPH_BEGIN, w->backend, structure);
  return 0;
}

BODY int handle_graph_begin(void *ctx, __u64 entry, __u64 backend, __u64 cgraph) {
  struct control *c = control();
  __u32 tid = (__u32)bpf_get_current_pid_tgid();
  if (!c || !c->active)
    return 0;
  struct thread_state *t = thread_state(tid);
  struct walk *w = walk_of(tid);
  if (!t || !w)
    return 0;
  /* A backend's own CPU graph is the same graph, not another one. */
  if (entry == ENTRY_CPU && t->entry == ENTRY_BACKEND)
    return 0;
  t->entry = entry;
  w->cgraph = cgraph;
  w->backend = backend;
  w->count = read_u32(cgraph + G_N_NODES);
  w->nodes = read_u64(cgraph + G_NODES);
  w->rebuilds = c->rebuilds;
  w->samples = sample_nodes(w);
  struct graph_state *g = graph_state(cgraph);
  if (g && g->structure && g->rebuilds == w->rebuilds && g->nodes == w->nodes &&
      g->count == w->count && g->samples == w->samples)
    return begin_graph(w, g->structure);
  w->calls = 0;
  if (w->unfinished == cgraph && w->hashed == w->samples) {
    /* A walk too long for one chain of calls goes on where it stopped. */
    w->unfinished = 0;
    chain_to(ctx, CHAIN_EMIT);
    return begin_graph(w, 0);
  }
  w->hash = cgraph ^ w->count;
  w->hashed = w->samples;
  w->node = 0;
  chain_to(ctx, CHAIN_HASH);
  return begin_graph(w, 0);
}

BODY int handle_graph_end(__u64 entry) {
  struct thread_state *t = thread_state((__u32)bpf_get_current_pid_tgid());
  if (!t || t->entry != entry)
    return 0;
  t->entry = ENTRY_NONE;
  if (is_active())
    emit(KIND_GRAPH_END, 0, 0);
  return 0;
}

/* First pass: is this a structure that we have seen? */
BODY int continue_hash(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  int i;
  if (!w)
    return 0;
  for (i = 0; i < HASH_CHUNK; i++) {
    if (w->node >= w->count)
      break;
    __u64 h = w->hash;
    MIX(h, read_tensor(w, read_u64(w->nodes + 8 * (__u64)w->node)));
    w->hash = h;
    w->node++;
  }
  if (w->node < w->count) {
    if (++w->calls < CHAIN_MAX / 2)
      chain_to(ctx, CHAIN_HASH);
    /* More nodes than one walk can visit: the structure stays unknown. */
    return begin_graph(w, 0);
  }
  __u64 *known = structure_of(w->hash);
  if (known)
    return begin_graph(w, *known);
  w->structure = bpf_ktime_get_boot_ns();
  w->node = 0;
  w->source = 0;
  chain_to(ctx, CHAIN_EMIT);
  return begin_graph(w, 0);
}

BODY int end_structure(struct walk *w) {
  struct structure_record *r = wide_reserve();
  if (!r) {
    count_loss(bpf_get_smp_processor_id(), KIND_STRUCTURE);
    return begin_graph(w, 0);
  }
  fill_header(&r->header, KIND_STRUCTURE, bpf_ktime_get_boot_ns());
  r->structure = w->structure;
  r->cgraph = w->cgraph;
  r->backend = w->backend;
  r->backend_name_fn = 0;
  __builtin_memset(r->guid, 0, sizeof(r->guid));
#if B_GUID >= 0
  if (w->backend) {
    bpf_probe_read_user(r->guid, sizeof(r->guid), (void *)read_u64(w->backend + B_GUID));
    r->backend_name_fn = read_u64(w->backend + B_GET_NAME);
  }
#endif
  r->nodes = w->count;
  wide_submit(r);
  structure_set(w->hash, w->structure);
  return begin_graph(w, w->structure);
}

/* Second pass: the nodes in order, each followed by its sources; of the tensors only those that
 * are new or changed. One loop over (node, source) keeps the verifier's work linear. */
BODY int continue_emit(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  __u32 cpu = bpf_get_smp_processor_id();
  __u32 failed = 0;
  int i, s;
  if (!w)
    return 0;
  for (i = 0; i < EMIT_CHUNK; i++) {
    __u64 tensor;
    if (w->node >= w->count)
      break;
    __u32 source = w->source;
    if (source == 0)
      tensor = read_u64(w->nodes + 8 * (__u64)w->node);
    else
      tensor = w->src[(source - 1) & 15];
    if (tensor) {
      __u64 signature = read_tensor(w, tensor);
      if (source == 0) {
        __u32 last = 0;
#pragma unroll
        for (s = 0; s < (T_SOURCES < SOURCES ? T_SOURCES : SOURCES); s++) {
          w->src[s] = FIELD(w->tensor, __u64, T_SRC + 8 * s);
          /* Branch-free: every branch counts against the verifier's limit. */
          __u64 negated = -w->src[s];
          asm volatile("" : "+r"(negated));
          __u64 is_set = (w->src[s] | negated) >> 63;
          last += is_set * (s + 1 - last);
        }
        w->sources = last;
      }
      __u64 *seen = signature_of(tensor);
      if (!seen || *seen != signature) {
        if (send_tensor(w, tensor)) {
          failed = KIND_TENSOR;
          break;
        }
        signature_set(tensor, signature);
      }
      if (source == 0 && !try_emit(cpu, KIND_NODE, tensor, w->structure)) {
        failed = KIND_NODE;
        break;
      }
    }
    if (source >= w->sources) {
      w->node++;
      w->source = 0;
    } else {
      w->source = source + 1;
    }
  }
  if (failed) {
    /* The ring is full: the rest would be lost as well. Walked again next time. */
    count_loss(cpu, failed);
    return begin_graph(w, 0);
  }
  if (w->node < w->count) {
    if (++w->calls < CHAIN_MAX)
      chain_to(ctx, CHAIN_EMIT);
    w->unfinished = w->cgraph;
    return begin_graph(w, 0);
  }
  return end_structure(w);
}

/* ---- Ubatches ---- */

#if U_N_TOKENS >= 0
BODY int send_tokens(struct walk *w) {
  struct tokens_record *r = wide_reserve();
  int i;
  if (!r) {
    count_loss(bpf_get_smp_processor_id(), KIND_TOKENS);
  } else {
    fill_header(&r->header, KIND_TOKENS, w->tokens_ts);
    r->first = w->runs_sent;
    r->runs = w->runs;
#pragma unroll
    for (i = 0; i < RUNS; i++)
      r->run[i] = w->run[i];
    wide_submit(r);
  }
  w->runs_sent += w->runs;
  w->runs = 0;
  return 0;
}

BODY void add_token(struct walk *w) {
  __u64 i = w->token;
  __u32 at = w->runs;
  __s32 sequence = 0, position = -1;
  __u8 output = 0;
  if (w->seq_id)
    sequence = read_u32(read_u64(w->seq_id + 8 * i));
  if (w->pos)
    position = read_u32(w->pos + 4 * i);
  if (w->output)
    bpf_probe_read_user(&output, 1, (void *)(w->output + i));
  if (at > 0) {
    struct token_run *run = &w->run[(at - 1) & 15];
    if (run->sequence == sequence && run->position + (__s32)run->tokens == position) {
      run->tokens++;
      run->outputs += !!output;
      run->last_output = !!output;
      return;
    }
  }
  if (at >= RUNS) {
    send_tokens(w);
    at = 0;
  }
  struct token_run *run = &w->run[at & 15];
  run->sequence = sequence;
  run->position = position;
  run->tokens = 1;
  run->outputs = !!output;
  run->last_output = !!output;
  w->runs = at + 1;
}

BODY int continue_tokens(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  int i;
  if (!w)
    return 0;
  for (i = 0; i < TOKEN_CHUNK; i++) {
    if (w->token >= w->tokens)
      break;
    add_token(w);
    w->token++;
  }
  if (w->token < w->tokens && ++w->calls < CHAIN_MAX)
    chain_to(ctx, CHAIN_TOKENS);
  if (w->runs)
    send_tokens(w);
  return 0;
}
#endif

BODY int handle_ubatch_begin(void *ctx, __u64 context, __u64 ubatch) {
  struct control *c = control();
  __u32 tid = (__u32)bpf_get_current_pid_tgid();
  struct thread_state *t = thread_state(tid);
  struct walk *w = walk_of(tid);
  if (!c || !t || !w)
    return 0;
  if (c->last_ubatch) {
    /* Target iterations: recording is on only inside the asked range. */
    __u64 index = c->ubatches;
    __sync_fetch_and_add(&c->ubatches, 1);
    c->active = index >= c->first_ubatch && index < c->last_ubatch;
  }
  t->entry = ENTRY_NONE;
  t->ubatch_ts = 0;
  if (!c->active)
    return 0;
  w->tokens = 0;
#if U_N_TOKENS >= 0
  w->tokens = read_u32(ubatch + U_N_TOKENS);
#endif
  __u64 ts = emit(KIND_UBATCH_BEGIN, w->tokens, context);
  t->ubatch_ts = ts ? ts : bpf_ktime_get_boot_ns();
#if U_N_TOKENS >= 0
  w->tokens_ts = t->ubatch_ts;
  w->pos = read_u64(ubatch + U_POS);
  w->seq_id = read_u64(ubatch + U_SEQ_ID);
  w->output = U_OUTPUT < 0 ? 0 : read_u64(ubatch + (U_OUTPUT < 0 ? 0 : U_OUTPUT));
  w->token = 0;
  w->runs = 0;
  w->runs_sent = 0;
  w->calls = 0;
  chain_to(ctx, CHAIN_TOKENS);
#endif
  return 0;
}

BODY int handle_ubatch_end(void) {
  struct control *c = control();
  struct thread_state *t = thread_state((__u32)bpf_get_current_pid_tgid());
  if (!c || !t || !t->ubatch_ts)
    return 0;
  t->ubatch_ts = 0;
  if (c->active)
    emit(KIND_UBATCH_END, 0, 0);
  if (c->last_ubatch && c->ubatches >= c->last_ubatch) {
    c->active = 0;
    c->finished = 1;
  }
  return 0;
}

#endif
