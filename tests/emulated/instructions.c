// Counts the instructions that a known loop retires, in user mode, as the processor's counter
// sees them: three times a loop of 0 and a loop of argv[1] rounds. Prints one count per line.
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t read_counter(int fd) {
  uint64_t value;
  if (read(fd, &value, sizeof value) != sizeof value) {
    perror("read");
    exit(1);
  }
  return value;
}

// Four instructions a round; one more instruction at the end.
static __attribute__((noinline)) void loop(uint64_t rounds) {
  __asm__ volatile("1: cbz %0, 2f\n"
                   "   sub %0, %0, #1\n"
                   "   nop\n"
                   "   b 1b\n"
                   "2:\n"
                   : "+r"(rounds)
                   :
                   : "cc");
}

int main(int argc, char **argv) {
  uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
  struct perf_event_attr attr = {
      .type = PERF_TYPE_HARDWARE,
      .size = sizeof attr,
      .config = PERF_COUNT_HW_INSTRUCTIONS,
      .exclude_kernel = 1,
      .exclude_hv = 1,
  };
  int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
  if (fd < 0) {
    perror("perf_event_open");
    return 1;
  }
  for (int i = 0; i < 6; i++) {
    uint64_t before = read_counter(fd);
    loop(i % 2 ? rounds : 0);
    printf("%llu\n", (unsigned long long)(read_counter(fd) - before));
  }
  return 0;
}
