/* SPDX-License-Identifier: Apache-2.0 */
/* Records one process, runs and records a command, or does what profinfer asks for (--serve). */
#include "alone.h"
#include "command.h"
#include "descriptors.h"
#include "recording.h"
#include "serve.h"

#include <signal.h>

int main(int argc, char **argv) {
  command_remember();
  descriptors_reserve();
  signal(SIGCHLD, SIG_DFL); /* who ignores it cannot wait for anybody */
  struct options options = options_parse(argc, argv);
  if (options.serve >= 0) {
    serve(options.serve);
    return 0;
  }
  recording_catch_signals();
  descriptors_allow();
  if (options.command)
    return alone_run(&options);
  recording_run(&options);
  return 0;
}
