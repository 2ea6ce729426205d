/* SPDX-License-Identifier: Apache-2.0 */
/* What --help says. */
#ifndef PROFINFER_HELP_H
#define PROFINFER_HELP_H

extern const char help[];

#endif
