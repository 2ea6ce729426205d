/* SPDX-License-Identifier: Apache-2.0 */
/* What the recorder finds in another kernel's BTF: kernel_types FILE */
#include "kernel_types.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv) {
  struct kernel_types found;
  struct stat status;
  int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  if (fd < 0 || fstat(fd, &status))
    return 2;
  kernel_types_find(mmap(0, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0), status.st_size, &found);
  if (*found.problem) {
    fprintf(stderr, "%s\n", found.problem);
    return 1;
  }
  printf("TASK_PID=%d TASK_PRIO=%d TASK_COMM=%d TASK_STATE=%d TASK_EXIT_STATE=%d TASK_CPU=%d "
         "SWITCH_TELLS_STATE=%d TASK_THREAD_PID=%d TASK_GROUP_LEADER=%d PID_DEPTH=%d "
         "PID_NUMBER=%d NAMESPACE_INODE=%d TASK_TGID=%d TASK_QUEUE=%d QUEUE_CPU=%d CPU_CLOCK=%d\n"
         "TASK_THROTTLED=%d QUEUE_THROTTLES=%d QUEUE_THROTTLED_TIME=%d\n",
         found.task_pid, found.task_prio, found.task_comm, found.task_state, found.task_exit_state,
         found.task_cpu, found.switch_tells_state, found.task_thread_pid, found.task_group_leader,
         found.pid_depth, found.pid_numbers, found.namespace_inode, found.task_tgid,
         found.task_queue, found.queue_cpu, found.cpu_clock, found.task_throttled,
         found.queue_throttles, found.queue_throttled_time);
}
