/* An engine that counts the calls of its hot functions. -DIFUNC: ggml_barrier is an indirect
 * function.
 */
#include "engine.h"
#include <stdarg.h>
#include <stdatomic.h>

static atomic_long counts[3];

double ggml_cpu_extra_compute_forward(long a, long b, long c, long d, long e, long f, long g,
                                      long h, long i, double j, double k, double l, double m,
                                      double n, double o, double p, double q, double r) {
  atomic_fetch_add(&counts[0], 1);
  return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k +
         12 * l + 13 * m + 14 * n + 15 * o + 16 * p + 17 * q + 18 * r;
}

pair ggml_compute_forward_rms_norm_mul_fused(pair first, int count, ...) {
  atomic_fetch_add(&counts[1], 1);
  va_list rest;
  va_start(rest, count);
  for (int i = 0; i < count; i++)
    first[i & 1] += (i + 1) * va_arg(rest, double);
  va_end(rest);
  return first;
}

#ifdef IFUNC
static struct large barrier(long x) {
#else
struct large ggml_barrier(long x) {
#endif
  atomic_fetch_add(&counts[2], 1);
  return (struct large){{x, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6}};
}
#ifdef IFUNC
static struct large (*choose(void))(long) { return barrier; }
struct large ggml_barrier(long) __attribute__((ifunc("choose")));
#endif

void engine_counts(long *out) {
  for (int i = 0; i < 3; i++)
    out[i] = counts[i];
}

void engine_run(const long *times, struct seen *seen) {
  for (long x = 0; x < times[0]; x++)
    seen->wrong += ggml_cpu_extra_compute_forward(x, 1, 2, 3, 4, 5, 6, 7, 8, .5, 1.5, 2.5, 3.5, 4.5,
                                                  5.5, 6.5, 7.5, 8.5) != x + 240 + 627;
  for (long x = 0; x < times[1]; x++) {
    pair got = ggml_compute_forward_rms_norm_mul_fused((pair){x, -x}, 10, 1., 2., 3., 4., 5., 6.,
                                                       7., 8., 9., 10.);
    seen->wrong += got[0] != x + 165 || got[1] != 220 - x;
  }
  for (long x = 0; x < times[2]; x++) {
    struct large got = ggml_barrier(x);
    seen->wrapped += got.words[0] == x + MARK;
    seen->wrong += (got.words[0] != x && got.words[0] != x + MARK) || got.words[6] != x + 6;
  }
}
