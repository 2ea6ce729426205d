// A program and its library (OTHER_LIB) that have nothing to do with ggml.
#include <stdio.h>
#include <unistd.h>

long other_work(long n);

#ifdef OTHER_LIB
long other_work(long n) {
  long sum = 0;
  for (volatile long i = 0; i < n; i++)
    sum += i;
  return sum;
}
#else
int main(void) {
  printf("%ld\n", other_work(7919));
  fflush(stdout);
  return read(0, &(char){0}, 1) < 0; // stays until its stdin ends
}
#endif
