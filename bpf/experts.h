/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Experts: which ones each token is sent to, read from the ids tensor where the first operator that
 * needs it begins. All of the graph's threads begin it; the one that entered the graph reads.
 */
#ifndef PROFINFER_EXPERTS_H
#define PROFINFER_EXPERTS_H

#include "handlers.h"

/* Rows, or pieces of one, that are read in a call. */
#define ROWS_CHUNK 256
#define PIECE 32

/* The name of the operator that multiplies what the experts gave by the router's weights:
 * "ffn_moe_weighted", 16 bytes. */
#define WEIGHTED_LOW 0x5f656f6d5f6e6666ull
#define WEIGHTED_HIGH 0x6465746867696577ull

/* Sends what has been read. Its time is that of the first of the records that belong together. */
BODY int try_send_experts(void *ctx, struct walk *w) {
  struct experts_record *r = wide_begin(w);
  __u64 *from = (__u64 *)w->tensor, *to;
  int i;
  if (!r)
    return -1;
  fill_header(&r->header, running_thread(), w->rows_kind, w->rows_ts);
  r->header.flags = w->rows_flags;
  r->node = w->rows_node;
  r->source = w->rows_source;
  r->used = w->rows_used;
  r->tokens = w->rows_tokens;
  r->first = w->rows_sent;
  r->count = w->rows_filled;
  to = (__u64 *)r->value;
#pragma unroll
  for (i = 0; i < EXPERT_VALUES / 2; i++)
    to[i] = from[i];
  r->reserved[0] = 0;
  r->reserved[1] = 0;
  return wide_end(ctx, r);
}

BODY void send_experts(void *ctx, struct walk *w) {
  if (try_send_experts(ctx, w))
    count_loss(bpf_get_smp_processor_id(), w->rows_kind);
  w->rows_sent += w->rows_filled;
  w->rows_filled = 0;
}

/* Counts the records that what is not read yet would have taken. */
BODY void lose_rest(struct walk *w) {
  __u64 whole = ((__u64)w->rows_used * w->rows_tokens + EXPERT_VALUES - 1) / EXPERT_VALUES;
  __u64 begun = w->rows_sent / EXPERT_VALUES + (w->rows_filled > 0);
  if (whole > begun)
    count_losses(bpf_get_smp_processor_id(), w->rows_kind, whole - begun);
}

/* Reads a piece of a row: rows are usually views, with a distance of their own. */
BODY void read_row(void *ctx, struct walk *w) {
  __u64 length, at;
  if (w->rows_filled >= EXPERT_VALUES)
    send_experts(ctx, w);
  at = w->rows_filled;
  length = w->rows_used - w->rows_rank;
  if (length > EXPERT_VALUES - at)
    length = EXPERT_VALUES - at;
  if (length > PIECE)
    length = PIECE;
  if (w->rows_step != 4)
    length = 1;
  __u64 from = w->rows_data + w->rows_token * w->rows_stride + w->rows_rank * w->rows_step;
  w->rows_filled += length;
  w->rows_rank += length;
  if (w->rows_rank >= w->rows_used) {
    w->rows_rank = 0;
    w->rows_token++;
  }
  length--;
  OPAQUE(at);
  OPAQUE(length);
  length = 4 * (length & (PIECE - 1)) + 4;
  at = 4 * (at & (EXPERT_VALUES - 1));
  if (bpf_probe_read_user(w->tensor + at, length, (void *)from))
    w->rows_flags = EXPERTS_UNREAD;
}

BODY int continue_experts(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  int i;
  if (!w)
    return 0;
  for (i = 0; i < ROWS_CHUNK; i++) {
    if (w->rows_token >= w->rows_tokens || w->rows_flags)
      break;
    read_row(ctx, w);
  }
  if (w->rows_token < w->rows_tokens && !w->rows_flags) {
    if (++w->calls < CHAIN_MAX)
      chain_to(ctx, CHAIN_EXPERTS);
    /* More than one chain of calls can read: as good as lost. */
    lose_rest(w);
  }
  if (w->rows_flags)
    w->rows_filled = 0;
  if (w->rows_filled || w->rows_flags)
    send_experts(ctx, w);
  return 0;
}

/* Begins to read a tensor of [used, tokens], its dimensions from `inner` on; those before and
 * behind have one element. */
BODY void begin_rows(void *ctx, struct walk *w, __u8 kind, __u64 node, __u64 source, __u64 inner) {
  w->rows_kind = kind;
  w->rows_node = node;
  w->rows_source = source;
  w->rows_data = read_u64(source + T_DATA);
  w->rows_used = read_u32(source + T_NE + 8 * inner);
  w->rows_tokens = read_u32(source + T_NE + 8 * inner + 8);
  w->rows_step = read_u64(source + T_NB + 8 * inner);
  w->rows_stride = read_u64(source + T_NB + 8 * inner + 8);
  w->rows_ts = boot_ns();
  w->rows_token = 0;
  w->rows_rank = 0;
  w->rows_sent = 0;
  w->rows_filled = 0;
  w->rows_flags = w->rows_data && w->rows_used ? 0 : EXPERTS_UNREAD;
  w->calls = 0;
  chain_to(ctx, CHAIN_EXPERTS);
  lose_rest(w);
}

/* An operator begins. Its graph reads each ids tensor once: gate, up and down share it. */
BODY void begin_experts(void *ctx, __u64 tensor) {
  __u64 source;
  int op = read_u32(tensor + T_OP), is_ids = op == E_MUL_MAT_ID;
  if (!is_ids) {
    if (!EXPERT_WEIGHTS || op != E_MUL || read_u64(tensor + T_NAME) != WEIGHTED_LOW ||
        read_u64(tensor + T_NAME + 8) != WEIGHTED_HIGH)
      return;
  }
  __u32 tid = (__u32)bpf_get_current_pid_tgid();
  struct thread_state *t = thread_state(tid);
  struct walk *w = walk_of(tid);
  if (!t || !w || t->entry == ENTRY_NONE)
    return;
  source = read_u64(tensor + T_SRC + (is_ids ? 16 : 8));
  if (is_ids && source == t->ids)
    return;
  if (is_ids)
    t->ids = source;
  begin_rows(ctx, w, is_ids ? KIND_EXPERTS : KIND_EXPERT_WEIGHTS, tensor, source, is_ids ? 0 : 1);
}

#endif
