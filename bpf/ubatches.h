/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Ubatches: where they begin and end, and their tokens as runs. */
#ifndef PROFINFER_UBATCHES_H
#define PROFINFER_UBATCHES_H

#include "handlers.h"

BODY int try_send_tokens(void *ctx, struct walk *w) {
  struct tokens_record *r = wide_begin(w);
  int i;
  if (!r)
    return -1;
  fill_header(&r->header, running_thread(), KIND_TOKENS, w->tokens_ts);
  r->first = w->runs_sent;
  r->runs = w->runs;
#pragma unroll
  for (i = 0; i < RUNS; i++)
    r->run[i] = w->run[i];
  return wide_end(ctx, r);
}

BODY void send_tokens(void *ctx, struct walk *w) {
  if (try_send_tokens(ctx, w))
    count_loss(bpf_get_smp_processor_id(), KIND_TOKENS);
  w->runs_sent += w->runs;
  w->runs = 0;
}

BODY void add_token(void *ctx, struct walk *w) {
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
    __u32 last = at - 1;
    OPAQUE(last);
    struct token_run *run = &w->run[last & 15];
    if (run->sequence == sequence && run->position + (__s32)run->tokens == position) {
      run->tokens++;
      run->outputs += !!output;
      run->last_output = !!output;
      return;
    }
  }
  if (at >= RUNS) {
    send_tokens(ctx, w);
    at = 0;
  }
  OPAQUE(at);
  struct token_run *run = &w->run[at & 15];
  run->sequence = sequence;
  run->position = position;
  run->tokens = 1;
  run->outputs = !!output;
  run->last_output = !!output;
  w->runs = at + 1;
}

/* One token; whether it was the last. */
BODY int next_token(void *ctx, struct walk *w) {
  if (w->token >= w->tokens)
    return 1;
  add_token(ctx, w);
  w->token++;
  return 0;
}

BODY int continue_tokens(void *ctx) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  int i;
  if (!w)
    return 0;
  for (i = 0; i < TOKEN_CHUNK; i++)
    if (next_token(ctx, w))
      break;
  if (w->token < w->tokens && ++w->calls < CHAIN_MAX)
    chain_to(ctx, CHAIN_TOKENS);
  if (w->runs)
    send_tokens(ctx, w);
  return 0;
}

#if HAS_LOOPS
struct tokens_under_way {
  void *ctx;
  struct walk *w;
};

static long token_each(__u32 index, struct tokens_under_way *t) { return next_token(t->ctx, t->w); }

/* The same without a chain (see hash_and_emit). */
BODY int all_tokens(void *ctx) {
  struct tokens_under_way t = {ctx, walk_of((__u32)bpf_get_current_pid_tgid())};
  if (!t.w)
    return 0;
  bpf_loop(LOOP_MAX, token_each, &t, 0);
  if (t.w->runs)
    send_tokens(ctx, t.w);
  return 0;
}
#endif

BODY void set_active(struct control *c, __u64 active) {
  if (active && !c->active)
    c->active_from = boot_ns();
  else if (!active && c->active)
    c->active_until = boot_ns();
  c->active = active;
}

/* Counts a ubatch; whether it is recorded. */
BODY int enter_ubatch(struct control *c, struct thread_state *t) {
  if (c->last_ubatch) {
    /* Target iterations: recording is on only inside the asked range. */
    __u64 index = c->ubatches;
    __sync_fetch_and_add(&c->ubatches, 1);
    set_active(c, index >= c->first_ubatch && index < c->last_ubatch);
  }
  t->entry = ENTRY_NONE;
  t->ubatch_ts = 0;
  return !!c->active;
}

/* `kind`: the upper half of KIND_UBATCH_BEGIN's a. */
BODY void begin_ubatch(void *ctx, struct thread_state *t, struct walk *w, __u64 kind,
                       __u64 context) {
  __u64 ts = emit(ctx, KIND_UBATCH_BEGIN, kind << 32 | w->tokens, context);
  t->ubatch_ts = ts ? ts : boot_ns();
  t->tokens = w->tokens;
  w->tokens_ts = t->ubatch_ts;
  w->token = 0;
  w->runs = 0;
  w->runs_sent = 0;
  w->calls = 0;
}

BODY int handle_ubatch_begin(void *ctx, __u64 context, __u64 ubatch, __u32 graph_type) {
  struct control *c = control();
  __u32 tid = (__u32)bpf_get_current_pid_tgid();
  struct thread_state *t = thread_state(tid);
  struct walk *w = walk_of(tid);
  if (!c || !t || !w || !enter_ubatch(c, t))
    return 0;
  w->tokens = U_N_TOKENS >= 0 ? read_u32(ubatch + U_N_TOKENS) : 0;
  /* What is no such number comes from a function that is not told one. */
  begin_ubatch(ctx, t, w, graph_type < 255 ? (graph_type + 1) << 16 : 0, context);
  if (U_N_TOKENS < 0)
    return 0;
  w->pos = read_u64(ubatch + U_POS);
  w->seq_id = read_u64(ubatch + U_SEQ_ID);
  w->output = U_OUTPUT < 0 ? 0 : read_u64(ubatch + U_OUTPUT);
  chain_to(ctx, CHAIN_TOKENS);
  return 0;
}

/* What an argument is, 0 for number 0. */
BODY __u64 argument_of(const struct arguments *given, __u32 number) {
  switch (number) {
  case 1:
    return given->a;
  case 2:
    return given->b;
  case 3:
    return given->c;
  case 4:
    return given->d;
  case 5:
    return given->e;
  case 6:
    return given->f;
  default:
    return 0;
  }
}

/* A step that an adapter describes (profinfer/engine/adapters/): one small program for each, and
 * then the one that they share. */
BODY int handle_step(void *ctx, __u32 number) {
  struct walk *w = walk_of((__u32)bpf_get_current_pid_tgid());
  if (!w)
    return 0;
  w->step = number;
  chain_to(ctx, CHAIN_STEP);
  return 0;
}

BODY int continue_step(void *ctx, const struct arguments *given) {
  struct control *c = control();
  __u32 tid = (__u32)bpf_get_current_pid_tgid();
  struct thread_state *t = thread_state(tid);
  struct walk *w = walk_of(tid);
  struct step *s = w ? step(w->step) : 0;
  if (!c || !t || !w || !s || !enter_ubatch(c, t))
    return 0;
  __u64 batch = argument_of(given, s->batch);
  w->tokens = s->batch ? read_u32(batch + s->n_tokens) : argument_of(given, s->tokens);
  begin_ubatch(ctx, t, w, w->step + 1, argument_of(given, s->context));
  if (s->batch) {
    w->pos = read_u64(batch + s->pos);
    w->seq_id = read_u64(batch + s->seq_id);
    w->output = s->output < 0 ? 0 : read_u64(batch + s->output);
    chain_to(ctx, CHAIN_TOKENS);
  } else if (s->position && w->tokens) {
    /* Of one sequence; it is the last token's logits that such a call is for. */
    w->run[0].sequence = 0;
    w->run[0].position = argument_of(given, s->position);
    w->run[0].tokens = w->tokens;
    w->run[0].outputs = 1;
    w->run[0].last_output = 1;
    w->runs = 1;
    send_tokens(ctx, w);
  }
  return 0;
}

BODY int handle_ubatch_end(void *ctx) {
  struct control *c = control();
  struct thread_state *t = thread_state((__u32)bpf_get_current_pid_tgid());
  if (!c || !t || !t->ubatch_ts)
    return 0;
  t->ubatch_ts = 0;
  if (c->active) {
    emit(ctx, KIND_UBATCH_END, 0, 0);
    __sync_fetch_and_add(&c->tokens, t->tokens);
  }
  if (c->last_ubatch && c->ubatches >= c->last_ubatch) {
    set_active(c, 0);
    c->finished = 1;
  }
  return 0;
}

#endif
