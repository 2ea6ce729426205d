/* SPDX-License-Identifier: Apache-2.0 */
/* Who this process is. */
#ifndef PROFINFER_CONFINE_USER_H
#define PROFINFER_CONFINE_USER_H

#include <sys/types.h>

/* Becomes that user, where this is root, without a capability and without ever getting one. Nobody
 * of that user's may look into this process. */
void user_become(uid_t uid, gid_t gid);

#endif
