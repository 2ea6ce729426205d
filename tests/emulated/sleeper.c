// Does what is easily counted of a thread: takes another name, sleeps SLEEPS times, makes a child
// that ends. Prints its own number and the child's.
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLEEPS 20

int main(void) {
  prctl(PR_SET_NAME, "other-name");
  for (int i = 0; i < SLEEPS; i++)
    usleep(10000);
  const pid_t child = fork();
  if (!child)
    _exit(0);
  waitpid(child, NULL, 0);
  printf("%d %d\n", getpid(), child);
  fflush(stdout);
  usleep(500000); // until the kernel has let go of it
  return 0;
}
