/* The hot functions with signatures that use every way to pass arguments and results. */
#pragma once

typedef double pair __attribute__((vector_size(16)));
struct large {
  long words[7]; /* too large for registers: the caller passes where it goes */
};

double ggml_cpu_extra_compute_forward(long, long, long, long, long, long, long, long, long, double,
                                      double, double, double, double, double, double, double,
                                      double);
pair ggml_compute_forward_rms_norm_mul_fused(pair first, int count, ...);
struct large ggml_barrier(long);

/* What engine_run() has seen. */
struct seen {
  long wrong;   /* results that were not right */
  long wrapped; /* results of ggml_barrier that another auditor's wrapper has marked */
};
#define MARK 1000000
/* Calls each hot function so many times, by the procedure linkage table. */
void engine_run(const long *times, struct seen *seen);
void engine_counts(long *counts);
