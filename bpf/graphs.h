/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Graphs: where they begin and end, and the structure of those not seen before. */
#ifndef PROFINFER_GRAPHS_H
#define PROFINFER_GRAPHS_H

#include "handlers.h"

BODY int handle_rebuild(void) {
  struct control *c = control();
  if (c)
    __sync_fetch_and_add(&c->rebuilds, 1);
  return 0;
}

#define MIX(h, v) ((h) = ((h) ^ (__u64)(v)) * 0x9E3779B97F4A7C15ull, (h) ^= (h) >> 29)
/* A field of the tensor that has been read. Where several are taken from one array, its address is
 * taken once: a parameter costs two instructions each time, and the verifier counts them. */
#define AT(type, offset) ((type *)(w->tensor + (offset)))

/* Reads one tensor into w->tensor; its signature changes when anything that we report does. */
BODY __u64 read_tensor(struct walk *w, __u64 tensor) {
  __u64 h = tensor;
  int i;
  if (bpf_probe_read_user(w->tensor, T_SIZE, (void *)tensor))
    return 0;
  __u64 *ne = AT(__u64, T_NE), *nb = AT(__u64, T_NB);
  __u64 *name = AT(__u64, T_NAME), *src = AT(__u64, T_SRC);
#pragma unroll
  for (i = 0; i < 4; i++) {
    MIX(h, ne[i]);
    MIX(h, nb[i]);
    MIX(h, name[i]);
  }
  int sources = T_SOURCES;
#pragma unroll
  for (i = 0; i < 4; i++)
    if (i < sources)
      MIX(h, src[i]);
  MIX(h, *AT(__u32, T_OP));
  MIX(h, *AT(__u32, T_TYPE));
  MIX(h, *AT(__u32, T_OP_PARAMS));
  return h ? h : 1;
}

BODY int send_tensor(void *ctx, struct walk *w, __u32 tid, __u64 tensor) {
  struct tensor_record *r = wide_begin(w);
  int i;
  if (!r)
    return -1;
  fill_header(&r->header, tid, KIND_TENSOR, boot_ns());
  r->address = tensor;
  r->data = *AT(__u64, T_DATA);
  r->buffer = T_BUFFER < 0 ? 0 : *AT(__u64, T_BUFFER);
  r->view_src = T_VIEW_SRC < 0 ? 0 : *AT(__u64, T_VIEW_SRC);
  __u64 *ne = AT(__u64, T_NE), *nb = AT(__u64, T_NB);
  __u64 *name = AT(__u64, T_NAME), *src = AT(__u64, T_SRC);
#pragma unroll
  for (i = 0; i < 4; i++) {
    r->ne[i] = ne[i];
    r->nb[i] = nb[i];
  }
  int sources = T_SOURCES, name_size = T_NAME_SIZE;
#pragma unroll
  for (i = 0; i < SOURCES; i++)
    r->src[i] = i < sources ? src[i] : 0;
  __s32 *op_params = AT(__s32, T_OP_PARAMS);
  r->op_params[0] = op_params[0];
  r->op_params[1] = op_params[1];
  r->type = *AT(__u32, T_TYPE);
  r->op = *AT(__u32, T_OP);
  r->tensor_flags = T_FLAGS < 0 ? 0 : *AT(__u32, T_FLAGS);
  r->reserved = 0;
#pragma unroll
  for (i = 0; i < NAME_SIZE / 8; i++)
    *(__u64 *)(r->name + 8 * i) = 8 * i + 8 <= name_size ? name[i] : 0;
  return wide_end(ctx, r);
}

/* A cheap look at a graph that was not announced as rebuilt: eight nodes spread over it. */
BODY __u64 sample_nodes(struct walk *w) {
  __u64 h = w->nodes ^ w->count;
  int i;
  if (G_UID >= 0) {
    /* Newer engines number their graphs: then this is all there is to ask. */
    __u64 uid = read_u64(w->cgraph + G_UID);
    if (uid)
      return uid;
  }
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

BODY int begin_graph(void *ctx, struct walk *w, __u64 structure) {
  struct graph_state *g = graph_state(w->cgraph);
  if (g) {
    g->nodes = w->nodes;
    g->count = w->count;
    g->rebuilds = w->rebuilds;
    g->samples = w->samples;
    g->structure = structure;
  }
  /* Last, so that the price of the walk is not part of the graph's time. */
  emit(ctx, KIND_GRAPH_BEGIN, w->backend, structure);
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
  if (EXPERTS)
    t->ids = 0;
  w->cgraph = cgraph;
  w->backend = backend;
  w->count = read_u32(cgraph + G_N_NODES);
  w->nodes = read_u64(cgraph + G_NODES);
  w->rebuilds = c->rebuilds;
  w->samples = sample_nodes(w);
  struct graph_state *g = graph_state(cgraph);
  if (g && g->structure && g->rebuilds == w->rebuilds && g->nodes == w->nodes &&
      g->count == w->count && g->samples == w->samples)
    return begin_graph(ctx, w, g->structure);
  w->calls = 0;
  if (w->unfinished == cgraph && w->hashed == w->samples) {
    /* A walk too long for one chain of calls goes on where it stopped. */
    w->unfinished = 0;
    chain_to(ctx, CHAIN_EMIT);
    return begin_graph(ctx, w, 0);
  }
  w->hash = cgraph ^ w->count;
  w->hashed = w->samples;
  w->node = 0;
  chain_to(ctx, CHAIN_HASH);
  return begin_graph(ctx, w, 0);
}

BODY int handle_graph_end(void *ctx, __u64 entry) {
  struct thread_state *t = thread_state((__u32)bpf_get_current_pid_tgid());
  if (!t || t->entry != entry)
    return 0;
  t->entry = ENTRY_NONE;
  if (is_active())
    emit_counted(ctx, KIND_GRAPH_END, 0, 0);
  return 0;
}

/* First pass: is this a structure that we have seen? One node of it; whether it was the last. */
BODY int hash_node(struct walk *w) {
  if (w->node >= w->count)
    return 1;
  __u64 h = w->hash;
  MIX(h, read_tensor(w, read_u64(w->nodes + 8 * (__u64)w->node)));
  w->hash = h;
  w->node++;
  return 0;
}

/* The structure that has been hashed, if it is known; else the second pass can begin. */
BODY __u64 *end_hash(struct walk *w) {
  __u64 *known = structure_of(w->hash);
  if (!known) {
    w->structure = boot_ns();
    w->node = 0;
    w->source = 0;
  }
  return known;
}

BODY int continue_hash(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  int i;
  if (!w)
    return 0;
  for (i = 0; i < HASH_CHUNK; i++)
    if (hash_node(w))
      break;
  if (w->node < w->count) {
    if (++w->calls < CHAIN_MAX / 2)
      chain_to(ctx, CHAIN_HASH);
    /* More nodes than one walk can visit: the structure stays unknown. */
    return begin_graph(ctx, w, 0);
  }
  __u64 *known = end_hash(w);
  if (known)
    return begin_graph(ctx, w, *known);
  chain_to(ctx, CHAIN_EMIT);
  return begin_graph(ctx, w, 0);
}

BODY int send_structure(void *ctx, struct walk *w) {
  struct structure_record *r = wide_begin(w);
  if (!r)
    return -1;
  fill_header(&r->header, running_thread(), KIND_STRUCTURE, boot_ns());
  r->structure = w->structure;
  r->cgraph = w->cgraph;
  r->backend = w->backend;
  r->backend_name_fn = 0;
  __builtin_memset(r->guid, 0, sizeof(r->guid));
  if (B_GUID >= 0 && w->backend) {
    bpf_probe_read_user(r->guid, sizeof(r->guid), (void *)read_u64(w->backend + B_GUID));
    r->backend_name_fn = read_u64(w->backend + B_GET_NAME);
  }
  r->nodes = w->count;
  return wide_end(ctx, r);
}

BODY int end_structure(void *ctx, struct walk *w) {
  if (send_structure(ctx, w)) {
    count_loss(bpf_get_smp_processor_id(), KIND_STRUCTURE);
    return begin_graph(ctx, w, 0);
  }
  structure_set(w->hash, w->structure);
  return begin_graph(ctx, w, w->structure);
}

/* The second pass under way. */
struct emission {
  void *ctx;
  struct walk *w;
  __u32 cpu;
  __u32 tid;
  __u32 failed; /* the kind of record that did not fit */
};

/* Second pass: the nodes in order, each followed by its sources; of the tensors only those that
 * are new or changed. One loop over (node, source) keeps the verifier's work linear: this is one
 * of them; whether it was the last. */
BODY int emit_tensor(struct emission *e) {
  struct walk *w = e->w;
  __u64 tensor;
  int s;
  if (w->node >= w->count)
    return 1;
  __u32 source = w->source;
  if (source == 0)
    tensor = read_u64(w->nodes + 8 * (__u64)w->node);
  else
    tensor = w->src[(source - 1) & 15];
  if (tensor) {
    __u64 signature = read_tensor(w, tensor);
    if (source == 0) {
      __u32 last = 0;
      int sources = T_SOURCES;
      __u64 *src = AT(__u64, T_SRC);
#pragma unroll
      for (s = 0; s < SOURCES; s++) {
        __u64 address = s < sources ? src[s] : 0;
        w->src[s] = address;
        /* Branch-free: every branch counts against the verifier's limit. */
        __u64 negated = -address;
        OPAQUE(negated);
        __u64 is_set = (address | negated) >> 63;
        last += is_set * (s + 1 - last);
      }
      w->sources = last;
    }
    __u64 *seen = signature_of(tensor);
    if (!seen || *seen != signature) {
      if (send_tensor(e->ctx, w, e->tid, tensor)) {
        e->failed = KIND_TENSOR;
        return 1;
      }
      signature_set(tensor, signature);
    }
    if (source == 0 && !try_emit_of(e->ctx, e->cpu, KIND_NODE, e->tid, tensor, w->structure)) {
      e->failed = KIND_NODE;
      return 1;
    }
  }
  if (source >= w->sources) {
    w->node++;
    w->source = 0;
  } else {
    w->source = source + 1;
  }
  return 0;
}

BODY int continue_emit(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  struct emission e = {ctx, w, bpf_get_smp_processor_id(), running_thread(), 0};
  int i;
  if (!w)
    return 0;
  for (i = 0; i < EMIT_CHUNK; i++)
    if (emit_tensor(&e))
      break;
  if (e.failed) {
    /* The ring is full: the rest would be lost as well. Walked again next time. */
    count_loss(e.cpu, e.failed);
    return begin_graph(ctx, w, 0);
  }
  if (w->node < w->count) {
    if (++w->calls < CHAIN_MAX)
      chain_to(ctx, CHAIN_EMIT);
    w->unfinished = w->cgraph;
    return begin_graph(ctx, w, 0);
  }
  return end_structure(ctx, w);
}

#if HAS_LOOPS
/* Both passes without a chain, where the kernel can call a function again and again: it is verified
 * once, which takes a hundredth of the time, and no graph is too long. */
static long hash_each(__u32 index, struct walk **w) { return hash_node(*w); }

static long emit_each(__u32 index, struct emission *e) { return emit_tensor(e); }

BODY int hash_and_emit(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  struct emission e = {ctx, w, bpf_get_smp_processor_id(), running_thread(), 0};
  if (!w)
    return 0;
  bpf_loop(LOOP_MAX, hash_each, &w, 0);
  if (w->node < w->count)
    return begin_graph(ctx, w, 0);
  __u64 *known = end_hash(w);
  if (known)
    return begin_graph(ctx, w, *known);
  bpf_loop(LOOP_MAX, emit_each, &e, 0);
  if (e.failed)
    count_loss(e.cpu, e.failed);
  if (e.failed || w->node < w->count)
    return begin_graph(ctx, w, 0);
  return end_structure(ctx, w);
}
#endif

#endif
