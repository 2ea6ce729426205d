/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a command as if it had been started without us. */
#ifndef PROFINFER_COMMAND_H
#define PROFINFER_COMMAND_H

#include "launch.h"

/* First of all in this program: how it was started is how the command shall be. */
void command_remember(void);

/* Starts it. Its PID is told to `known` before it becomes the command. EXIT_TARGET when it cannot
 * be run. */
pid_t command_start(const struct launch_request *request, void (*known)(pid_t pid));

#endif
