// Asks a recorder: ask RECORDER REQUEST... prints the answer to each, one a line.
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
  static char answer[1 << 16];
  int ends[2];
  char end[16];
  if (argc < 3 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
    return 2;
  if (fork() == 0) {
    close(ends[0]);
    snprintf(end, sizeof end, "%d", ends[1]);
    execl(argv[1], argv[1], "--serve", end, (char *)0);
    _exit(127);
  }
  close(ends[1]);
  for (char **request = argv + 2; *request; request++) {
    ssize_t length = send(ends[0], *request, strlen(*request), 0);
    // Between the answers it tells that its children have ended.
    while (length > 0 && (length = recv(ends[0], answer, sizeof answer - 1, 0)) > 0) {
      answer[length] = 0;
      if (strstr(answer, "\"answer\"") || strstr(answer, "\"failed\""))
        break;
    }
    if (length <= 0)
      return 1;
    puts(answer);
  }
  return 0;
}
