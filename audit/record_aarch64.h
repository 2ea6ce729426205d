/* SPDX-License-Identifier: Apache-2.0 */
/* As record_x86_64.h, for arm64. */
#ifndef PROFINFER_RECORD_AARCH64_H
#define PROFINFER_RECORD_AARCH64_H

/* x9: stub_mine, x13: the ring, x12: the record's number, then its word, x14: the slot. A thread
 * that is interrupted between ldxr and stxr takes its slot anew. The counter would be read ahead
 * of that, but for the isb. */
#define RECORD(kind, a, b)                                                                         \
  "1: mrs x9, tpidr_el0\n"                                                                         \
  "adrp x10, :gottprel:stub_mine\n"                                                                \
  "ldr x10, [x10, :gottprel_lo12:stub_mine]\n"                                                     \
  "add x9, x9, x10\n"                                                                              \
  "adrp x10, stub_page\n"                                                                          \
  "add x10, x10, :lo12:stub_page\n"                                                                \
  "ldr x11, [x10, 8 * stub]\n"                                                                     \
  "ldp x12, x13, [x9]\n"                                                                           \
  "cmp x12, x11\n"                                                                                 \
  "b.ne 3f\n"                                                                                      \
  "ldr x14, [x13, 8]\n"                                                                            \
  "2: ldxr x12, [x13]\n"                                                                           \
  "cmp x12, x14\n"                                                                                 \
  "b.hs 3f\n"                                                                                      \
  "add x15, x12, 1\n"                                                                              \
  "stxr w11, x15, [x13]\n"                                                                         \
  "cbnz w11, 2b\n"                                                                                 \
  "ldr x11, [x10, 384]\n"                                                                          \
  "and x14, x12, x11\n"                                                                            \
  "add x14, x13, x14, lsl 5\n"                                                                     \
  "ldr x12, [x13, 16]\n"                                                                           \
  "orr x12, x12, x15, lsl 36\n"                                                                    \
  "ldr x11, [x9, 16]\n"                                                                            \
  "ldr w11, [x11]\n"                                                                               \
  "and x11, x11, 0xfff\n"                                                                          \
  "orr x12, x12, x11, lsl 24\n"                                                                    \
  "orr x12, x12, " #kind " << 22\n"                                                                \
  "isb\n"                                                                                          \
  "mrs x11, cntvct_el0\n"                                                                          \
  "str x11, [x14, 128]\n" a b "add x14, x14, 152\n"                                                \
  "stlr x12, [x14]\n"                                                                              \
  "adrp x16, slots + 32 * stub\n"                                                                  \
  "ldr x16, [x16, :lo12:slots + 32 * stub]\n"                                                      \
  "br x16\n"                                                                                       \
  "3: mov w9, stub\n"                                                                              \
  "adr x10, 4f\n"                                                                                  \
  "b recorder_miss\n"                                                                              \
  "4: cbnz w9, 1b\n"                                                                               \
  "adrp x16, slots + 32 * stub\n"                                                                  \
  "ldr x16, [x16, :lo12:slots + 32 * stub]\n"                                                      \
  "br x16\n"                                                                                       \
  ".balign 256, 0\n"                                                                               \
  ".set stub, stub + 1\n"

#define RECORDS(first, kind, a, b) ".rept " EXPANDED(COPIES) "\n" first RECORD(kind, a, b) ".endr\n"

/* An operator of certain ops goes by the NOPs behind its stub, where a probe sits (audit.c). */
#define SEND_ON                                                                                    \
  "adrp x10, stub_page\n"                                                                          \
  "add x10, x10, :lo12:stub_page\n"                                                                \
  "ldr x11, [x10, 416]\n"                                                                          \
  "cbz x11, 1f\n"                                                                                  \
  "ldr w11, [x1, x11]\n"                                                                           \
  "ldr w12, [x10, 424]\n"                                                                          \
  "ldr w13, [x10, 428]\n"                                                                          \
  "cmp w11, w12\n"                                                                                 \
  "b.eq stubs + 64 * stub + 40\n"                                                                  \
  "cmp w11, w13\n"                                                                                 \
  "b.eq stubs + 64 * stub + 40\n"

/* As the handlers of bpf/handlers.h have it: which argument is what. */
#define RECORDERS                                                                                  \
  ".balign 256\n"                                                                                  \
  "recorders:\n"                                                                                   \
  ".cfi_startproc\n"                                                                               \
  ".set stub, 0\n" RECORDS(SEND_ON, 1, "str x1, [x14, 136]\n", "str xzr, [x14, 144]\n")            \
      RECORDS("", 2, "str x2, [x14, 136]\n", "str x1, [x14, 144]\n") RECORDS(                      \
          "", 3, "str x0, [x14, 136]\n", "str xzr, [x14, 144]\n") ".cfi_endproc\n" RECORDER_MISS

/* stub_miss() of w9, of which the compiler is told not to use vector registers, with every argument
 * as it was; its answer in w9. It returns to x10: the link register is the caller's, and ret needs
 * no landing pad. */
#define RECORDER_MISS                                                                              \
  "recorder_miss:\n"                                                                               \
  ".cfi_startproc\n"                                                                               \
  "stp x29, x30, [sp, -96]!\n"                                                                     \
  ".cfi_def_cfa_offset 96\n"                                                                       \
  ".cfi_offset x29, -96\n"                                                                         \
  ".cfi_offset x30, -88\n"                                                                         \
  "mov x29, sp\n"                                                                                  \
  "stp x0, x1, [sp, 16]\n"                                                                         \
  "stp x2, x3, [sp, 32]\n"                                                                         \
  "stp x4, x5, [sp, 48]\n"                                                                         \
  "stp x6, x7, [sp, 64]\n"                                                                         \
  "stp x8, x10, [sp, 80]\n"                                                                        \
  "mov w0, w9\n"                                                                                   \
  "bl stub_miss\n"                                                                                 \
  "mov w9, w0\n"                                                                                   \
  "ldp x0, x1, [sp, 16]\n"                                                                         \
  "ldp x2, x3, [sp, 32]\n"                                                                         \
  "ldp x4, x5, [sp, 48]\n"                                                                         \
  "ldp x6, x7, [sp, 64]\n"                                                                         \
  "ldp x8, x10, [sp, 80]\n"                                                                        \
  "ldp x29, x30, [sp], 96\n"                                                                       \
  ".cfi_restore x29\n"                                                                             \
  ".cfi_restore x30\n"                                                                             \
  ".cfi_def_cfa_offset 0\n"                                                                        \
  "ret x10\n"                                                                                      \
  ".cfi_endproc\n"

#endif
