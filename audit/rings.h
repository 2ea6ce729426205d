/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of recording stubs: what the audit library (rings.c) and the recorder
 * (bpf/recorder/stub_rings.c) say to each other through a page of the process's memory and a memory
 * file that both can read. README.md tells it in words. profinfer/engine/stubs.py knows the page.
 */
#ifndef PROFINFER_AUDIT_RINGS_H
#define PROFINFER_AUDIT_RINGS_H

/* Of plain numbers, because the stubs are assembly: STUBS is HOT * COPIES. */
#define HOT 3
#define COPIES 16 /* objects at a time that may define one function */
#define STUBS 48

/* What the library has made ready when an engine was loaded. 0: nothing, or the process has been
 * forked since: a child finds the page empty. */
enum page_state {
  PAGE_READY = 1,
  PAGE_SECCOMP = 2, /* a system call filter is on, or whether it is cannot be read */
  PAGE_LIMIT = 3,   /* files may not become so large (RLIMIT_FSIZE) */
  PAGE_REFUSED = 4, /* by the kernel */
};

/* The page: private to the process, in a mapping that fork() empties. */
struct stub_page {
  uint64_t switches[STUBS]; /* a stub records while its own is not 0 */
  uint64_t mask;            /* records of a ring, a power of two, less one; */
  uint64_t rings;           /* the recorder sets both, once, before it switches anything on */
  uint64_t file;            /* where the file is mapped */
  uint64_t state;           /* enum page_state */
  uint64_t op_at;           /* where a tensor has its op; 0: all operators are recorded here */
  uint32_t ops[2];          /* those of these ops are sent on to NOPs, where a probe sits */
};
/* Offsets, for the stubs. */
#define PAGE_MASK 384
#define PAGE_OP_AT 416
#define PAGE_OPS 424

/* A word that switches on has the recorder's PID in its lower half. No two recordings have the same
 * one: a thread whose word is another's asks for a ring first. */

/* The file: its head, then rings, each a head and its records. */
#define RECORDS_MAX (1 << 21) /* of all rings together, in 64 MiB: who records says how many */
#define RINGS_MAX 128
struct file_head {
  uint64_t lost[HOT + 1]; /* by stub kind: of threads that had no ring */
  uint64_t forbidden;     /* of these: threads that may not read the counter */
  uint64_t reserved[11];
};

struct stub_ring {
  uint64_t next;          /* number of the record that is begun next */
  uint64_t limit;         /* up to which there is room, as far as the thread knows */
  uint64_t owner;         /* thread, by its own number; 0: nobody's yet */
  uint64_t lost[HOT + 1]; /* by stub kind: what did not fit */
  uint64_t full_since;    /* CLOCK_MONOTONIC in ns, 0: it is not */
  uint64_t taken;         /* the recorder's two: how many it has taken out. Each is written by a */
  uint64_t taken_again;   /* system call, the second after the first: equal, they are whole */
  uint64_t reserved[6];
};
#define RING_HEAD 128 /* its size, and where its records begin */

/* Stub kind: KIND_OPERATOR, KIND_FUSED or KIND_BARRIER (bpf/records.h), in the order of the hot
 * functions. `word` is written last: thread: 22, stub kind: 2, CPU: 12, and of one more than the
 * record's number the lowest 28 bits, lowest first. A slot with another number is not finished.
 * arm64's CPU is the one that the kernel has told the thread (rseq): CPU_UNKNOWN where it does not.
 */
struct stub_record {
  uint64_t counter; /* the processor's (time stamp counter, cntvct_el0) */
  uint64_t a, b;    /* as in bpf/records.h */
  uint64_t word;
};
#define WORD_KIND 22
#define WORD_CPU 24
#define WORD_NUMBER 36
#define THREAD_MAX ((1u << WORD_KIND) - 1)
#define CPU_UNKNOWN 0xfff

static inline uint64_t ring_offset(uint64_t ring, uint64_t mask) {
  return sizeof(struct file_head) +
         ring * (sizeof(struct stub_ring) + (mask + 1) * sizeof(struct stub_record));
}

#define FILE_SIZE                                                                                  \
  (sizeof(struct file_head) + RINGS_MAX * sizeof(struct stub_ring) +                               \
   RECORDS_MAX * sizeof(struct stub_record))

_Static_assert(STUBS == HOT * COPIES && sizeof(struct stub_ring) == RING_HEAD &&
                   sizeof(struct file_head) == 128 && sizeof(struct stub_record) == 32 &&
                   __builtin_offsetof(struct stub_page, mask) == PAGE_MASK &&
                   __builtin_offsetof(struct stub_page, op_at) == PAGE_OP_AT &&
                   __builtin_offsetof(struct stub_page, ops) == PAGE_OPS,
               "the stubs count on it");

#endif
