/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The contract between the handlers and user space: what travels through the rings.
 *
 * profinfer/records/dtypes.py restates these structs as numpy dtypes; tests/records compiles this
 * header and compares. Plain C with fixed-width types, so that both BPF dialects, the tests and
 * the recorder can include it.
 */
#ifndef PROFINFER_RECORDS_H
#define PROFINFER_RECORDS_H

enum record_kind {
  KIND_OPERATOR = 1,    /* a = tensor */
  KIND_FUSED = 2,       /* a = tensor that is written, b = tensor it was fused with */
  KIND_BARRIER = 3,     /* a = threadpool */
  KIND_GRAPH_BEGIN = 4, /* a = backend, b = structure (0: could not be read) */
  KIND_GRAPH_END = 5,
  KIND_UBATCH_BEGIN = 6, /* a = tokens: 32, one more than the number of the step, 0 for
                            process_ubatch: 16, one more than what it says of the type of its graph,
                            0 where it says nothing: 16, lowest bits first; b = llama_context, or
                            whatever tells contexts apart */
  KIND_UBATCH_END = 7,
  KIND_NODE = 8,            /* a = tensor, b = structure: nodes in order of execution */
  KIND_TENSOR = 9,          /* wide */
  KIND_STRUCTURE = 10,      /* wide */
  KIND_TOKENS = 11,         /* wide */
  KIND_COUNTERS = 12,       /* a, b = the next two of a reading (counters.h) */
  KIND_EXPERTS = 20,        /* wide: ids of experts */
  KIND_EXPERT_WEIGHTS = 21, /* wide: what the router gave them */
  KIND_FAULT = 22,          /* a = address, b = 1 when it was a major one */
  KIND_FILE_READ = 23, /* pages came into the page cache; a = first page: 32, device: 32; b = inode:
                          58, binary logarithm of the number of pages: 6; lowest bits first */
  KIND_CALL = 24,      /* wide: a call of a function of the engine's own interface */
  KIND_COUNT = 25,
};

/* Whether the structure ring carries it. */
static inline int is_wide(unsigned kind) {
  return (kind >= KIND_TENSOR && kind <= KIND_TOKENS) ||
         (kind >= KIND_EXPERTS && kind <= KIND_EXPERT_WEIGHTS) || kind == KIND_CALL;
}

/* Counters follow their operator, barrier or graph end, with its time and thread, as
 * COUNTER_RECORDS records: those of one CPU stand in order. What they carry in turn:
 *   the thread's time on CPUs in ns: 58 bits, lowest first, and its generation: 6 bits,
 *   the value of each event,
 *   for each group of events of a PMU: ns of that time in which it was not counted.
 * All of it goes up from an arbitrary beginning. Between two generations of a thread a context
 * switch was missed: nothing can be computed from readings of both. */
#define COUNTER_MAX 16         /* events */
#define COUNTER_RECORDS_MAX 17 /* (1 + 16 + 16) / 2, rounded up */
#define COUNTER_UNKNOWN (~0ULL)
#define COUNTER_GENERATION 58
/* Of the scheduler, in rings of their own (scheduler.h). tid is the thread that was running unless
 * it says otherwise. a and b are made of fields of the tracepoints; where several share a word the
 * lowest bits come first. */
enum scheduler_kind {
  KIND_SWITCH = 32,  /* a = next thread: 32, state of the one that ran: 16, priority of next: 16;
                        b = system call it is in: 32, flags SWITCH_* */
  KIND_WAKING = 33,  /* a = woken thread: 32, CPU: 16, priority: 16; b = SWITCH_THROTTLED */
  KIND_NEWTASK = 34, /* a = new thread: 32, process of the one that made it: 32; b = clone flags */
  KIND_NEWNAME = 35, /* tid = new thread, or a stranger (STRANGER) that is met; a, b = its name */
  KIND_RENAME = 36,  /* tid = thread; a, b = its new name */
  KIND_EXIT = 37,    /* tid = thread that ends */
  KIND_FREE = 38,    /* tid = thread that is gone */
  KIND_REASON = 39,  /* tid = thread that was blocked; a = kernel function, b = waits for I/O */
};
#define FIRST_SCHEDULER_KIND 32
#define SCHEDULER_KINDS 8

/* Flags of KIND_SWITCH in b. */
#define SWITCH_FROM_TARGET 32 /* bit: the thread that ran is the target's */
#define SWITCH_TO_TARGET 33   /* bit: the next one is (recordings of the target's switches only) */
#define SWITCH_HAS_CALL 34    /* bit: the system call is known; -1 is none */
#define SWITCH_THROTTLED 35   /* bit: the thread that ran is kept from the CPU by a quota */
/* bit: above it stands for how long the queue of that one, else of the next one, has been
 * throttled, in units of 1 << THROTTLED_UNIT ns: what fits of it */
#define SWITCH_HAS_THROTTLED_TIME 36
#define SWITCH_THROTTLED_TIME 37
#define THROTTLED_UNIT 10

/* What the per-CPU rings carry. ts is CLOCK_BOOTTIME in ns, tid a thread's number in the PID
 * namespace of user space. Threads and processes that have none there bear the machine's and
 * STRANGER: no kernel gives out so high ones (PID_MAX_LIMIT is 1 << 22). cpu is CPU_NOT_KNOWN where
 * a stub that records has not been told.
 *
 * Ring transport: a ring is an array of 2^n records that user space has mapped. Record number i
 * lies in slot i mod 2^n and bears the mark of its lap, written last: a slot whose mark is
 * another's is not finished yet. Perf transport: the kernel's perf buffers, one per CPU; mark is 0.
 */
#define STRANGER 1000000000
#define CPU_NOT_KNOWN 0xffff
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

#define EXPERT_VALUES 64
#define EXPERTS_UNREAD                                                                             \
  1 /* flag: the tensor is not in memory that can be read; it has no values                        \
     */

/* What one layer's router chose in one graph: `used` values for each of `tokens` tokens, token by
 * token. They may need several records, of one ts and node; one of them lost is a gap. */
struct experts_record {
  struct wide_header header;
  __u64 node;   /* the operator where they were read */
  __u64 source; /* the tensor of ids, or of weights */
  __u32 used;
  __u32 tokens;
  __u32 first;                /* index of this record's first value */
  __u32 count;                /* values in this record */
  __u32 value[EXPERT_VALUES]; /* expert numbers (int32), or weights (float) */
  __u64 reserved[2];
};

#define CALL_ARGUMENTS 6 /* those that are passed in registers */

/* A call of a function that an adapter names as one (profinfer/engine/adapters/). ts: it returned;
 * or, where that is not looked at, ts is `began`, and there is no result. Of calls within one that
 * is told when it returns, by the same thread, there are no records. */
struct call_record {
  struct wide_header header;
  __u64 began;
  __u64 argument[CALL_ARGUMENTS]; /* whole registers: only the adapter knows what is in use */
  __u64 result;
  __u32 number; /* in the plan's calls */
  __u8 reserved[WIDE_SIZE - 16 - 8 - 8 * CALL_ARGUMENTS - 8 - 4];
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
  __u64 tokens;      /* in ubatches that have ended while recording was on */
  /* Of a range: when recording was switched on and off, all ones before. Stubs that record (audit/)
   * know nothing of it: what they have recorded at another time is left out. */
  __u64 active_from;
  __u64 active_until;
};

/* The same for the programs of the scheduler. */
struct scheduler_control {
  __u64 active; /* nothing is recorded while 0 */
  __u64 target; /* process id */
  __u64 boot_offset;
  __u64 throttled; /* a thread of the target has been, since the programs were loaded */
};

#endif
