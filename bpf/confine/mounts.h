/* SPDX-License-Identifier: Apache-2.0 */
/* What is mounted in the new root, and how. */
#ifndef PROFINFER_CONFINE_MOUNTS_H
#define PROFINFER_CONFINE_MOUNTS_H

/* Nothing at or below a path can be written any more, nor be a device or give privileges; on
 * kernels before 5.12 that holds for the topmost mount alone. */
void mounts_protect(const char *path);

/* Covers what of other processes can be seen by a /proc, wherever one is mounted. `proc` is one
 * that shows this process; `empty` is a path for a file that takes the place of single ones. */
void mounts_hide_processes(int proc, const char *empty);

#endif
