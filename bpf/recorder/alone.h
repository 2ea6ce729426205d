/* SPDX-License-Identifier: Apache-2.0 */
/* Launching and recording a command without profinfer: on a board. */
#ifndef PROFINFER_ALONE_H
#define PROFINFER_ALONE_H

#include "options.h"

/* Runs the command; once a process of its family has mapped what the plan needs, records that one.
 * The exit status of the recorder, when recording and command have ended. */
int alone_run(struct options *options);

#endif
