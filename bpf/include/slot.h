/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Flows are owned by slots: the same function as `slot` in crates/flow/src/ownership.rs. The key is public: whoever chooses its ports may fill a
 * slot, and gains nothing, since a proxy owns many. */
#ifndef BATON_SLOT_H
#define BATON_SLOT_H

#include "packet.h"
#include "siphash.h"

static __noinline __u32 flow_slot(const struct flow_key *key)
{
	struct {
		struct flow_key key;
		__u32 zero;
	} in __attribute__((aligned(8))) = {};
	__u64 secret[2] = {};

	if (!key)
		return 0;
	in.key = *key;
	return siphash((const __u64 *)&in, sizeof(in) / 8, secret) & (SLOTS - 1);
}

#endif
