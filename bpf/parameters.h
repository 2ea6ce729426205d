/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Every integer that the handlers are loaded with. BCC compiles them in, as macros; the libbpf
 * object keeps them in read-only data that is set before loading, which the verifier knows to be
 * constant: what a parameter rules out is as dead there as behind an #if.
 */
#ifndef PROFINFER_PARAMETERS_H
#define PROFINFER_PARAMETERS_H

/* Where fields stand in the target's structs (profinfer/parameters.py makes these of a layout): no
 * number of a ggml version stands in bpf/. -1 is a field that this engine lacks. */
#define LAYOUT_PARAMETERS(X)                                                                       \
  X(T_SIZE) /* bytes of struct ggml_tensor, rounded up to 8; at most TENSOR_MAX */                 \
  X(T_TYPE)                                                                                        \
  X(T_BUFFER)                                                                                      \
  X(T_NE)                                                                                          \
  X(T_NB)                                                                                          \
  X(T_OP)                                                                                          \
  X(T_OP_PARAMS)                                                                                   \
  X(T_FLAGS)                                                                                       \
  X(T_SRC)                                                                                         \
  X(T_SOURCES) /* pointers that are looked at there, at most SOURCES */                            \
  X(T_VIEW_SRC)                                                                                    \
  X(T_DATA)                                                                                        \
  X(T_NAME)                                                                                        \
  X(T_NAME_SIZE)                                                                                   \
  X(G_N_NODES)                                                                                     \
  X(G_NODES)                                                                                       \
  X(G_UID)                                                                                         \
  X(B_GUID)                                                                                        \
  X(B_GET_NAME)                                                                                    \
  X(U_N_TOKENS)                                                                                    \
  X(U_POS)                                                                                         \
  X(U_SEQ_ID)                                                                                      \
  X(U_OUTPUT)

#define PARAMETERS(X)                                                                              \
  LAYOUT_PARAMETERS(X)                                                                             \
  X(RING_SHIFT) /* a CPU's ring has 1 << RING_SHIFT records (ring transport) */                    \
  X(BOOT_CLOCK) /* 1 where the kernel lends BPF the BOOTTIME clock, 0 where it does not */

/* Bytes of a struct ggml_tensor that there is room for; what is longer cannot be recorded. */
#define TENSOR_MAX 512

/* What records travel through: decided when the handlers are compiled, because kernels before 5.12
 * refuse the ring's atomic instructions even in code that never runs. */
#define TRANSPORT_RING 0
#define TRANSPORT_PERF 1

#endif
