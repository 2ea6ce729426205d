// Takes a CPU: pinned to one, works ON ms and sleeps OFF ms, until it is killed.
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc != 4)
    return 2;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(atoi(argv[1]), &set);
  if (sched_setaffinity(0, sizeof set, &set) || prctl(PR_SET_NAME, "the-spinner"))
    return 1;
  puts("ready");
  fflush(stdout);
  for (;;) {
    const long long until = now() + atoi(argv[2]) * 1000000LL;
    while (now() < until)
      ;
    usleep(1000 * atoi(argv[3]));
  }
}
