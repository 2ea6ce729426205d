/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The contract between the handlers and user space: what travels through the rings.
 *
 * profinfer/records.py restates these structs as numpy dtypes; tests/contract compiles this
 * header and compares. Plain C with fixed-width types, so that both BPF dialects, the tests and
 * a recorder in C can include it.
 */
#ifndef PROFINFER_RECORDS_H
#define PROFINFER_RECORDS_H

enum record_kind {
  KIND_OPERATOR = 1,    /* a = tensor */
  KIND_FUSED = 2,       /* a = tensor that is written, b = tensor it was fused with */
  KIND_BARRIER = 3,     /* a = threadpool */
  KIND_GRAPH_BEGIN = 4, /* a = backend, b = structure (0: could not be read) */
  KIND_GRAPH_END = 5,
  KIND_UBATCH_BEGIN = 6, /* a = tokens, b = llama_context */
  KIND_UBATCH_END = 7,
  KIND_NODE = 8,       /* a = tensor, b = structure: nodes in order of execution */
  KIND_TENSOR = 9,     /* wide */
  KIND_STRUCTURE = 10, /* wide */
  KIND_TOKENS = 11,    /* wide */
  KIND_COUNT = 12,
};

/* What the per-CPU rings carry. ts is CLOCK_BOOTTIME in ns, tid a kernel thread id.
 *
 * Ring transport: a ring is an array of 2^n records that user space has mapped. Record number i
 * lies in slot i mod 2^n and bears the mark of its lap, written last: a slot whose mark is
 * another's is not finished yet. Perf transport: the kernel's perf buffers, one per CPU; mark is 0.
 */
struct record {
  __u64 ts;
  __u64 a;
  __u64 b;
  __u32 tid;
  __u16 cpu;
  __u8 kind;
  __u8 mark; /* (i / 2^n + 1) mod 256 */
};

/* One per CPU, each on a cache line of its own.
 *
 * Perf transport: while next and ended differ, a handler may have taken a time and not yet sent its
 * record. */
struct ring_head {
  __u64 next;  /* number of the record that is begun next: handlers count it up */
  __u64 taken; /* records that user space has taken out: it alone writes this (ring transport) */
  __u64 ended; /* records sent or lost, wide ones among them as in next (perf transport) */
  __u64 reserved[5];
};

#define WIDE_SIZE 320
#define NAME_SIZE 64
#define SOURCES 10
#define RUNS 12

/* What the structure ring carries starts like this; every record has WIDE_SIZE bytes. */
struct wide_header {
  __u64 ts;
  __u32 tid;
  __u16 cpu;
  __u8 kind;
  __u8 flags;
};

/* A tensor that is new or has changed, as it stood in the target's memory at graph start. */
struct tensor_record {
  struct wide_header header;
  __u64 address;
  __u64 data;
  __u64 buffer;
  __u64 view_src;
  __s64 ne[4];
  __u64 nb[4];
  __u64 src[SOURCES];
  __s32 op_params[2]; /* the first says which unary or gated operator it is */
  __u32 type;
  __u32 op;
  __u32 tensor_flags;
  __u32 reserved;
  char name[NAME_SIZE];
};

/* Ends the list of KIND_NODE records that one thread emitted for this structure. */
struct structure_record {
  struct wide_header header;
  __u64 structure; /* also the time at which the walk began: unique */
  __u64 cgraph;
  __u64 backend;
  __u64 backend_name_fn; /* address of the backend's get_name */
  __u8 guid[16];         /* of the backend */
  __u32 nodes;
  __u8 reserved[WIDE_SIZE - 16 - 4 * 8 - 16 - 4];
};

/* Consecutive tokens of one sequence at consecutive positions. */
struct token_run {
  __s32 sequence;
  __s32 position; /* of the first token */
  __u32 tokens;
  __u32 outputs;     /* tokens whose logits were asked for */
  __u32 last_output; /* 1 when the run's last token is one of them */
};

/* The tokens of one ubatch; ts and tid are those of its KIND_UBATCH_BEGIN. */
struct tokens_record {
  struct wide_header header;
  __u32 first; /* index of this record's first run: a ubatch may need several records */
  __u32 runs;
  struct token_run run[RUNS];
  __u8 reserved[WIDE_SIZE - 16 - 8 - RUNS * 20];
};

/* One per CPU and kind. Every record that did not fit is counted here. */
struct loss {
  __u64 lost;
  __u64 last_ts;
};

/* Set by user space before the probes are attached and cleared at the end; the handlers count in
 * it and, with target iterations, switch themselves on and off. */
struct control {
  __u64 active;       /* nothing is recorded while 0 */
  __u64 first_ubatch; /* record ubatches [first, last): both 0 for all */
  __u64 last_ubatch;
  __u64 ubatches;    /* begun so far, counted when a range is set */
  __u64 rebuilds;    /* graphs (re)built by the scheduler so far */
  __u64 finished;    /* the range is complete */
  __u64 boot_offset; /* CLOCK_BOOTTIME - CLOCK_MONOTONIC in ns, for kernels that hide the former */
};

#endif
