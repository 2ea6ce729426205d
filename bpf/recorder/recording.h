/* SPDX-License-Identifier: Apache-2.0 */
/* One recording of one process into one capture: load, attach, drain until something ends it. */
#ifndef PROFINFER_RECORDING_H
#define PROFINFER_RECORDING_H

#include "options.h"

/* From now on SIGINT, SIGTERM and SIGHUP end the recording of this process, not the process. */
void recording_catch_signals(void);

/* Records. Over options->socket, where there is one, it is told what comes of it, and asked (in
 * serve.h stands how); the process ends when it fails. */
void recording_run(const struct options *options);

#endif
