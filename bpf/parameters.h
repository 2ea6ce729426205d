/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Every integer that the handlers are loaded with. BCC compiles them in, as macros; the libbpf
 * object keeps them in read-only data that is set before loading, which the verifier knows to be
 * constant: what a parameter rules out is as dead there as behind an #if.
 */
#ifndef PROFINFER_PARAMETERS_H
#define PROFINFER_PARAMETERS_H

/* Where fields stand in the target's structs (profinfer/describing/parameters.py makes these of a
 * layout): no number of a ggml version stands in bpf/. -1 is a field that this engine lacks. */
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
  X(U_OUTPUT)                                                                                      \
  X(E_MUL_MAT_ID) /* the number of that op, */                                                     \
  X(E_MUL)        /* and of that one */

/* The programs of memory.h: whose faults, and where the fields of a tracepoint stand in its record
 * (-1: this kernel lacks it). */
#define MEMORY_PARAMETERS(X)                                                                       \
  X(TARGET)                                                                                        \
  X(PAGE_INODE)                                                                                    \
  X(PAGE_INDEX)                                                                                    \
  X(PAGE_DEVICE)                                                                                   \
  X(PAGE_ORDER)

/* By which numbers threads and processes are told to user space (pids.h). All but the first are
 * used only where that is not 0. */
#define PID_PARAMETERS(X)                                                                          \
  X(PID_LEVEL)         /* of user space's PID namespace; 0: the machine's own */                   \
  X(PID_NAMESPACE)     /* its inode */                                                             \
  X(TASK_THREAD_PID)   /* where a struct task_struct has its struct pid, */                        \
  X(TASK_GROUP_LEADER) /* and the first thread of its process, */                                  \
  X(PID_DEPTH)         /* where a struct pid has the level of its own namespace, */                \
  X(PID_NUMBER)        /* and its struct upid of our level: number, then namespace, */             \
  X(NAMESPACE_INODE)   /* and where a struct pid_namespace has its inode */

/* What the programs of launch.h ask of a task and of the files that it has mapped (known_files.h);
 * all but the first are used only where that is 1. */
#define FILE_PARAMETERS(X)                                                                         \
  X(LOOKS_AT_FILES) /* 1: the kernel lends what that takes */                                      \
  X(TASK_FS)                                                                                       \
  X(FS_ROOT)                                                                                       \
  X(AREA_FLAGS)                                                                                    \
  X(AREA_FILE)                                                                                     \
  X(FILE_INODE)                                                                                    \
  X(INODE_NUMBER)                                                                                  \
  X(INODE_SIZE)                                                                                    \
  X(INODE_CHANGED_S)                                                                               \
  X(INODE_CHANGED_NS)                                                                              \
  X(INODE_SUPER)                                                                                   \
  X(SUPER_DEVICE)

#define PARAMETERS(X)                                                                              \
  LAYOUT_PARAMETERS(X)                                                                             \
  MEMORY_PARAMETERS(X)                                                                             \
  PID_PARAMETERS(X)                                                                                \
  X(RING_SHIFT)      /* a CPU's ring has 1 << RING_SHIFT records (ring transport) */               \
  X(BOOT_CLOCK)      /* 1 where the kernel lends BPF the BOOTTIME clock, 0 where it does not */    \
  X(COUNTERS)        /* events that are counted, 0 for none; at most COUNTER_MAX */                \
  X(COUNTER_LEADERS) /* a bit for each that leads a group on a PMU */                              \
  X(COUNTER_ALWAYS)  /* a bit for each that never waits for hardware: the kernel's own */          \
  X(COUNTER_RECORDS) /* records of a reading, 0 for none */                                        \
  X(TASK_NVCSW)      /* where a task_struct says how often it left a CPU willingly, then how often \
                        not; -1: unknown */                                                        \
  X(CALLS_AT_ENTRY)  /* a bit for each call that is told when it begins, by its number */          \
  X(CALL_PARTS)      /* from this number on they are parts, which may lie within others */         \
  X(CPU_COUNT)       /* event i on CPU c is number i * CPU_COUNT + c */                            \
  X(EXPERTS)         /* 1: read which experts tokens are sent to */                                \
  X(EXPERT_WEIGHTS)  /* 1: and what the router gave them */

/* The programs of the scheduler: where fields stand in the kernel's struct task_struct
 * (recorder/kernel_types.c reads it in the kernel's BTF) and in the record of the one tracepoint
 * that is read from there. */
#define SCHEDULER_PARAMETERS(X)                                                                    \
  PID_PARAMETERS(X)                                                                                \
  X(TASK_PID)                                                                                      \
  X(TASK_PRIO)                                                                                     \
  X(TASK_COMM)                                                                                     \
  X(TASK_STATE)                                                                                    \
  X(TASK_EXIT_STATE)                                                                               \
  X(TASK_CPU)                                                                                      \
  X(TASK_TGID)                                                                                     \
  X(TASK_THROTTLED)       /* -1: not told of tasks one by one */                                   \
  X(TASK_QUEUE)           /* its struct cfs_rq */                                                  \
  X(QUEUE_THROTTLES)      /* there, how many groups are throttled; -1: it does not matter */       \
  X(QUEUE_THROTTLED_TIME) /* since when, then for how long before; -1: it is not counted */        \
  X(QUEUE_CPU)            /* its struct rq, */                                                     \
  X(CPU_CLOCK)            /* where that has the time */                                            \
  X(SWITCH_TELLS_STATE)   /* 1: sched_switch hands over the state that it read (Linux 5.18) */     \
  X(REASON_PID)           /* -1: no such tracepoint */                                             \
  X(REASON_CALLER)                                                                                 \
  X(REASON_IO_WAIT)                                                                                \
  X(CALL_OFFSET) /* of the system call's number in a task's registers, -1: not to be had */        \
  X(TARGET_ONLY) /* 1: only what involves the target's threads */                                  \
  X(RING_SHIFT)                                                                                    \
  X(BOOT_CLOCK)

/* Bytes of a struct ggml_tensor that there is room for; what is longer cannot be recorded. */
#define TENSOR_MAX 512

/* What records travel through: decided when the handlers are compiled, because kernels before 5.12
 * refuse the ring's atomic instructions even in code that never runs. */
#define TRANSPORT_RING 0
#define TRANSPORT_PERF 1

#endif
